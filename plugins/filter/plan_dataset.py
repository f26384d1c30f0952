# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter plan_dataset: what a run makes of a dataset of this size, as warnings with the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.module_utils.ascend_fleet.plan_warnings import dataset_warnings


def plan_dataset(plan: Mapping[str, Any], tokens: int) -> list[str]:
    """Return the warnings about training by `plan` (fleet_plan) on a dataset of so many tokens."""
    if not isinstance(plan, Mapping) or "train" not in plan:
        raise AnsibleFilterError("plan_dataset needs the run plan (fleet_plan)")
    return dataset_warnings(int(tokens), plan["train"])


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {"plan_dataset": plan_dataset}
