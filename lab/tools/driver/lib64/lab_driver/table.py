# SPDX-License-Identifier: GPL-3.0-or-later
"""The overview table of `npu-smi info` for chips with HBM (910, 910B), as drivers 21.x to 25.x print it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

CHIP = "910B3"
_TOP = f"+{'-' * 96}+"
_LINE = f"+{'-' * 27}+{'-' * 15}+{'-' * 52}+"
_DOUBLE = _LINE.replace("-", "=")
_INCOMPLETE = (
    "[WARNING]The driver package may not be completely installed, which may cause function abnormal. "
    "Please reinstall it."
)


def overview(view: Dict[str, Any], process_root: Path) -> str:
    """The whole answer; process names are looked up below `process_root`, as the real tool does in its own /proc."""
    lines = [_TOP, f"| npu-smi {view['versions']['tool']:<24} Version: {view['versions']['driver']:<52} |", _LINE]
    lines += [
        "| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|",
        "| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |",
        _DOUBLE,
    ]
    for npu in view["npus"]:
        lines += [_first(npu), _second(npu), _DOUBLE]
    lines += [
        _LINE,
        "| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |",
        _DOUBLE,
    ]
    for npu in view["npus"]:
        lines += [*_processes(npu, process_root), _DOUBLE]
    if not view["complete"] and not view["in_container"]:
        lines.append(_INCOMPLETE)
    return "\n".join(lines)


def _first(npu: Dict[str, Any]) -> str:
    hugepages = f"{0:<5}/ {0:<13}"
    return (
        f"| {npu['id']:<5} {CHIP:<20}| {npu['health']:<13} "
        f"| {npu['power']:<11.1f} {npu['temperature']:<17} {hugepages} |"
    )


def _second(npu: Dict[str, Any]) -> str:
    memory = f"{0:<5}/ {0:<10}"
    hbm = f"{npu['hbm_used']:<5}/ {npu['hbm_total']:<13}"
    return f"| {0:<26}| {npu['bus']:<13} | {npu['aicore']:<11} {memory} {hbm} |"


def _processes(npu: Dict[str, Any], process_root: Path) -> List[str]:
    rows = [
        f"| {npu['id']:<7} {0:<18}| {held['pid']:<13} | {_name(process_root, held['pid']):<24} | {held['memory']:<23} |"
        for held in npu["processes"]
    ]
    return rows or [f"| No running processes found in NPU {npu['id']:<7}{' ' * 54}|"]


def _name(process_root: Path, pid: int) -> str:
    """A process's name cut to 15 characters by the kernel, empty where this process cannot see it."""
    try:
        return (process_root / "proc" / str(pid) / "comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
