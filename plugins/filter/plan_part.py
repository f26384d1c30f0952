# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter plan_part: of the run plan, what one host needs for its part of the training.

A plan for hundreds of hosts has hundreds of kilobytes, nearly all of it about other hosts' ranks. Every call of a module carries its
arguments, and a run is followed by many calls on every host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

FOR_PEOPLE = ("ranks", "memory", "problems", "warnings", "suggestions")
BY_HOST = ("shards", "writers", "environment")


def plan_part(plan: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return the plan with all hosts by name and rank, and everything else that is kept by host for `host` alone."""
    if not isinstance(plan, Mapping) or "launch" not in plan:
        raise AnsibleFilterError("plan_part needs a run plan; make one with playbooks/plan-run.yml")
    part = {key: value for key, value in plan.items() if key not in FOR_PEOPLE}
    part.update({key: _own(plan[key], host) for key in BY_HOST})
    part["hosts"] = [{"name": entry["name"], "node_rank": entry["node_rank"]} for entry in plan["hosts"]]
    part["launch"] = {**plan["launch"], "arguments": _own(plan["launch"]["arguments"], host)}
    return part


def _own(by_host: Mapping[str, Any], host: str) -> dict[str, Any]:
    return {host: by_host[host]} if host in by_host else {}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {"plan_part": plan_part}
