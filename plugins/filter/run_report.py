# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters report_lines, the run's receipts as a table for the terminal, and human_bytes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# On the controller module_utils is a directory like any other.
sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from ascend_fleet.plan_findings import counted
from ascend_fleet.receipts_on_host import in_pipeline_order

Receipt = Mapping[str, Any]

ABSENT = "-"


def human_bytes(count: float) -> str:
    """Return a number of bytes as a person writes it: 0 B, 512 B, 1.5 KiB, 14.2 GiB."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    step = 0
    while count >= 1024 and step < len(units) - 1:
        count, step = count / 1024, step + 1
    return f"{count:.0f} B" if step == 0 else f"{count:.1f} {units[step]}"


def _source(receipt: Receipt) -> str:
    commits = receipt["inputs"].get("commits", {})
    return " ".join(str(commit)[:8] for _, commit in sorted(commits.items())) or receipt["fingerprint"]


def _container(receipt: Receipt) -> str:
    probe = receipt["made_with"].get("probe") or {}
    versions = probe.get("versions") or {}
    return f"{receipt['fingerprint'][:8]}  {probe.get('npus', 0)} NPUs, torch_npu {versions.get('torch_npu', ABSENT)}"


def _files(receipt: Receipt) -> str:
    return f"{receipt['fingerprint'][:8]}  {receipt['files']} files, {human_bytes(receipt['bytes'])}"


def _reference(receipt: Receipt) -> str:
    loss = receipt["made_with"].get("loss")
    return f"{receipt['fingerprint'][:8]}  loss {loss:.4f}" if isinstance(loss, (int, float)) else _files(receipt)


def _run(receipt: Receipt) -> str:
    made = receipt["made_with"]
    losses = made.get("losses") or []
    if not losses:
        return f"{receipt['fingerprint'][:8]}  {made.get('role', 'part of the run')}"
    (_, first), (last_iteration, last) = losses[0], losses[-1]
    return f"{receipt['fingerprint'][:8]}  {last_iteration} iterations, loss {first:.3f} to {last:.3f}"


TELL: dict[str, Callable[[Receipt], str]] = {
    "container": _container,
    "source": _source,
    "reference": _reference,
    "run": _run,
}


def report_lines(receipts: Mapping[str, Sequence[Receipt]], plan: Mapping[str, Any]) -> list[str]:
    """Return the lines of the table: a column a host, a row a stage.

    `receipts` maps an inventory name to the result of receipt_info on that host; `plan` is the run plan.
    """
    if not isinstance(receipts, Mapping) or not isinstance(plan, Mapping):
        raise AnsibleFilterError("report_lines needs a mapping of host to receipts and the run plan")
    hosts = list(receipts)
    rows = [["stage", *hosts]]
    for stage in in_pipeline_order(receipt["stage"] for kept in receipts.values() for receipt in kept):
        tell = TELL.get(stage, _files)
        mine = [[tell(receipt) for receipt in receipts[host] if receipt["stage"] == stage] for host in hosts]
        rows.append([stage, *[cell[0] if cell else ABSENT for cell in mine]])
    return [_title(plan), *_aligned(rows)]


def _title(plan: Mapping[str, Any]) -> str:
    sizes = f"TP{plan['tp']} PP{plan['pp']} DP{plan['dp']}"
    return f"MindSpeed-LLM {plan['release']['name']}, {sizes} on {counted(plan['nnodes'], 'host')} ({counted(plan['world_size'], 'NPU')})"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {"report_lines": report_lines, "human_bytes": human_bytes}
