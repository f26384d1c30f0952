# SPDX-License-Identifier: GPL-3.0-or-later
"""The overview table of `npu-smi info` for chips with HBM (910, A2, A3), as drivers 21.x to 25.x print it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

_TOP = f"+{'-' * 96}+"
_LINE = f"+{'-' * 27}+{'-' * 15}+{'-' * 52}+"
_DOUBLE = _LINE.replace("-", "=")
_INCOMPLETE = (
    "[WARNING]The driver package may not be completely installed, which may cause function abnormal. "
    "Please reinstall it."
)


def overview(view: Dict[str, Any], process_root: Path) -> str:
    """The whole answer; process names are looked up below `process_root`, as the real tool does in its own /proc."""
    two_dies = view["model"]["dies"] > 1
    lines = [_TOP, f"| npu-smi {view['versions']['tool']:<24} Version: {view['versions']['driver']:<52} |", _LINE]
    lines += [
        "| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|",
        f"| {'Chip  Phy-ID' if two_dies else 'Chip':<26}| Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |",
        _DOUBLE,
    ]
    for npu, following in zip(view["npus"], [*view["npus"][1:], None]):
        same_card = following is not None and following["id"] == npu["id"]
        lines += [_first(npu), _second(npu, two_dies), _TOP if same_card else _DOUBLE]
    lines += [
        _LINE,
        "| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |",
        _DOUBLE,
    ]
    for card in dict.fromkeys(npu["id"] for npu in view["npus"]):
        lines += [*_processes([npu for npu in view["npus"] if npu["id"] == card], process_root), _DOUBLE]
    if not view["complete"] and not view["in_container"]:
        lines.append(_INCOMPLETE)
    return "\n".join(lines)


def _first(npu: Dict[str, Any]) -> str:
    hugepages = f"{0:<5}/ {0:<13}"
    power = "-" if npu["power"] is None else f"{npu['power']:.1f}"
    return (
        f"| {npu['id']:<5} {npu['name']:<20}| {npu['health']:<13} | {power:<11} {npu['temperature']:<17} {hugepages} |"
    )


def _second(npu: Dict[str, Any], two_dies: bool) -> str:
    place = f"{npu['chip']:<5} {npu['phy']:<20}" if two_dies else f"{npu['chip']:<26}"
    memory = f"{npu['ddr_used']:<5}/ {npu['ddr_total']:<10}"
    hbm = f"{npu['hbm_used']:<5}/ {npu['hbm_total']:<13}"
    return f"| {place}| {npu['bus']:<13} | {npu['aicore']:<11} {memory} {hbm} |"


def _processes(chips: List[Dict[str, Any]], process_root: Path) -> List[str]:
    """The rows of one card."""
    rows = [
        f"| {npu['id']:<7} {npu['chip']:<18}| {held['pid']:<13} | {_name(process_root, held['pid']):<24} | {held['memory']:<23} |"
        for npu in chips
        for held in npu["processes"]
    ]
    return rows or [f"| No running processes found in NPU {chips[0]['id']:<7}{' ' * 54}|"]


def _name(process_root: Path, pid: int) -> str:
    """A process's name cut to 15 characters by the kernel, empty where this process cannot see it."""
    try:
        return (process_root / "proc" / str(pid) / "comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
