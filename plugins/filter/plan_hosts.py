# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter plan_hosts: what the inventory declares about the hosts of a run, in their order."""

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
        return {"plan_hosts": plan_hosts}
