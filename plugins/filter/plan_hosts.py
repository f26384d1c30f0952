# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters plan_hosts, plan_misplaced: what the inventory declares about the hosts of a run, in their order, and what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def plan_hosts(names: Sequence[str], hostvars: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return [{name, address, npus, interface, hbm_mb}] as the module run_plan takes them.

    What a host does not declare is left out, so that the plan names it together with everything else that is wrong.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise AnsibleFilterError(f"plan_hosts needs a list of inventory names, not {names!r}")
    unknown = [name for name in names if name not in hostvars]
    if unknown:
        raise AnsibleFilterError(
            f"training_hosts names {', '.join(map(str, unknown))}, which the inventory does not know"
        )
    return [_declared(name, hostvars[name]) for name in names]


def plan_misplaced(names: Any, prepared: Sequence[str], staging: str, hostvars: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each name that does not stand where the plays look for it, as far as they are given those places."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        return [f"training_hosts is {names!r}, which is no list of hosts."]
    unknown = [name for name in names if name not in hostvars]
    outside = [name for name in names if prepared and name not in unknown and name not in prepared]
    problems = [f"training_hosts names {name}, which the inventory does not know." for name in unknown]
    problems += [f"{name} is to train, and is not in the group ascend, whose servers are prepared." for name in outside]
    if staging and staging not in hostvars:
        problems.append(f"ascend_staging_host is {staging}, which the inventory does not know.")
    return problems


def _declared(name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    # The address for other servers may differ from the one that ssh uses, for instance behind a jump host.
    address = variables.get("ascend_address") or variables.get("ansible_host") or name
    entry = {"name": name, "address": address}
    entry |= {
        key: variables[f"ascend_{key}"] for key in ("npus", "interface", "hbm_mb") if variables.get(f"ascend_{key}")
    }
    return entry


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {"plan_hosts": plan_hosts, "plan_misplaced": plan_misplaced}
