# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter plan_dataset: what a run makes of the dataset that preprocessing left, as warnings with the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def plan_dataset(plan: Mapping[str, Any], made: Mapping[str, Any]) -> list[str]:
    """Return the warnings about training by `plan` (fleet_plan) on what megatron_dataset returned as `made`.

    None where the dataset is only predicted. What the builder itself warned about comes first.
    """
    if not isinstance(plan, Mapping) or "train" not in plan or not isinstance(made, Mapping):
        raise AnsibleFilterError("plan_dataset needs the run plan (fleet_plan) and the result of megatron_dataset")
    worker = ((made.get("artifact") or {}).get("made_with") or {}).get("worker") or {}
    counted = (worker.get("keys") or {}).get(plan["dataset"]["train_key"]) or {}
    lines = [f"Dataset {plan['dataset']['name']}: {text}." for text in worker.get("warnings") or []]
    return [*lines, *_small(plan["train"], int(counted["tokens"]))] if "tokens" in counted else lines


def _small(train: Mapping[str, Any], tokens: int) -> list[str]:
    """Compare the tokens that are trained on with what the iterations take."""
    shares = [float(share) for share in str(train.get("split", "1")).split(",")]
    tokens = int(tokens * shares[0] / (sum(shares) or 1))
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
            f"{samples} samples of this dataset ({tokens} tokens)."
        )
    return lines


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {"plan_dataset": plan_dataset}
