# SPDX-License-Identifier: GPL-3.0-or-later
"""What a second plan, made after looking at the servers, says differently from the first."""

from __future__ import annotations

from typing import Any, List, Mapping

from .plan_fit import gib

SIZES = (("world_size", "ranks"), ("tp", "TP"), ("pp", "PP"), ("cp", "CP"), ("dp", "DP"))


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> List[str]:
    """Return one line for each difference that a person has to know; none where the first plan holds."""
    lines = _hosts(before, after)
    lines += [
        f"{name}: {before.get(key)} as declared, {after.get(key)} as found."
        for key, name in SIZES
        if before.get(key) != after.get(key)
    ]
    for key, name in (("train", "Training"), ("conversion", "Conversion")):
        lines += [
            f"{name} {part.replace('_', ' ')}: {before[key].get(part)} as declared, {value} as found."
            for part, value in after[key].items()
            if before[key].get(part) != value
        ]
    if before.get("training_arguments") != after.get("training_arguments"):
        lines.append("The training arguments differ.")
    return lines


def _hosts(before: Mapping[str, Any], after: Mapping[str, Any]) -> List[str]:
    declared = {host["name"]: host for host in before["hosts"]}
    found = {host["name"]: host for host in after["hosts"]}
    lines = [
        f"Host {name} is left out of this run, as the driver check decided." for name in declared if name not in found
    ]
    for name, host in found.items():
        old = declared.get(name, host)
        if old.get("hbm_mb") != host["hbm_mb"]:
            lines.append(
                f"Host {name}: NPUs with {_memory(old)} as declared, {_memory(host)} as npu-smi reports their total."
            )
        if old["interface"] != host["interface"]:
            lines.append(
                f"Host {name}: interface {old['interface'] or '(none)'} as declared, {host['interface']} as found."
            )
    return lines


def _memory(host: Mapping[str, Any]) -> str:
    return gib(host.get("hbm_mb", 0) * 2**20)
