# SPDX-License-Identifier: GPL-3.0-or-later
"""What a second plan, made after looking at the servers, says differently from the first."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from .plan_fit import gib

SIZES = (("world_size", "ranks"), ("tp", "TP"), ("pp", "PP"), ("cp", "CP"), ("dp", "DP"))
MOST_MOVES = 4  # hosts whose new place is told one by one; of more, the first is


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> List[str]:
    """Return one line for each difference that a person has to know; none where the first plan holds."""
    lines = _hosts(before, after)
    lines += [
        f"{name}: {before.get(key)} as declared, {after.get(key)} as found."
        for key, name in SIZES
        if before.get(key) != after.get(key)
    ]
    lines += [*_steps(before, after), *_order(before, after)]
    for key, name in (("train", "Training"), ("conversion", "Conversion")):
        lines += [
            f"{name} {part.replace('_', ' ')}: {before[key].get(part)} as declared, {value} as found."
            for part, value in after[key].items()
            if before[key].get(part) != value
        ]
    return lines + _arguments(before["training_arguments"], after["training_arguments"])


def _arguments(before: Sequence[str], after: Sequence[str]) -> List[str]:
    old, new = _flags(before), _flags(after)
    return [
        f"Training argument {flag}: {old.get(flag, 'absent')} as declared, {new.get(flag, 'absent')} as found."
        for flag in dict.fromkeys([*old, *new])
        if old.get(flag) != new.get(flag)
    ]


def _flags(arguments: Sequence[str]) -> Dict[str, str]:
    """Return flag -> its value or values, `set` for a switch."""
    found: Dict[str, List[str]] = {}
    flag = ""
    for word in arguments:
        if word.startswith("--"):
            flag = word
            found[flag] = []
        else:
            found.setdefault(flag, []).append(word)
    return {name: " ".join(values) or "set" for name, values in found.items()}


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


def _steps(before: Mapping[str, Any], after: Mapping[str, Any]) -> List[str]:
    """Say what another DP means for the batch: its size is the recipe's, so the ranks that are left compute more of it."""
    declared, found = _rounds(before), _rounds(after)
    if declared == found:
        return []
    train = after["train"]
    return [
        f"Global batch: {train['global_batch_size']} samples, for which each rank computes {found} micro batches of "
        f"{train['micro_batch_size']} a step, {declared} as declared."
    ]


def _rounds(plan: Mapping[str, Any]) -> int:
    train = plan["train"]
    rounds: int = train["global_batch_size"] // (train["micro_batch_size"] * plan["dp"])
    return rounds


def _order(before: Mapping[str, Any], after: Mapping[str, Any]) -> List[str]:
    """Say which hosts have other ranks, and where the ranks meet now."""
    declared = {host["name"]: host["node_rank"] for host in before["hosts"]}
    moved = [host for host in after["hosts"] if declared.get(host["name"], host["node_rank"]) != host["node_rank"]]
    lines = [
        f"Host {host['name']}: node {declared[host['name']]} with ranks {_ranks(before, declared[host['name']])} as declared, "
        f"node {host['node_rank']} with ranks {_ranks(after, host['node_rank'])} as found."
        for host in (moved if len(moved) <= MOST_MOVES else moved[:1])
    ]
    if len(moved) > MOST_MOVES:
        lines.append(
            f"{len(moved) - 1} more hosts, up to {moved[-1]['name']}, move up in the rank order like this one."
        )
    old, new = before["launch"]["master_addr"], after["launch"]["master_addr"]
    return lines if old == new else [*lines, f"The ranks meet on {old} as declared, on {new} as found."]


def _ranks(plan: Mapping[str, Any], node: int) -> str:
    each = plan["nproc_per_node"]
    return f"{node * each}-{node * each + each - 1}"


def _memory(host: Mapping[str, Any]) -> str:
    return gib(host.get("hbm_mb", 0) * 2**20)
