# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter plan_dataset: what a run makes of a dataset of this size, as warnings with the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def plan_dataset(plan: Mapping[str, Any], tokens: int) -> list[str]:
    """Return the warnings about training by `plan` (fleet_plan) on a dataset of so many tokens."""
    if not isinstance(plan, Mapping) or "train" not in plan:
        raise AnsibleFilterError("plan_dataset needs the run plan (fleet_plan)")
    tokens, train = int(tokens), plan["train"]
    samples = max(tokens - 1, 0) // train["seq_length"]
    wanted = train["iterations"] * train["global_batch_size"]
    lines = []
    if samples < train["global_batch_size"]:
        lines.append(
            f"{tokens} tokens make {samples} samples of {train['seq_length']}, fewer than a global batch of "
            f"{train['global_batch_size']}: every step sees some of them more than once."
        )
    if samples and wanted > samples:
        lines.append(
            f"{train['iterations']} iterations of {train['global_batch_size']} samples go {wanted / samples:.1f} times through the "
            f"{samples} samples of this dataset."
        )
    return lines


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {"plan_dataset": plan_dataset}
