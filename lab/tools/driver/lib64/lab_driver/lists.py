# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists of npu-smi: `info -l`, `info -m` and `info -t TYPE -i NPU`, tab-indented names and values."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

from lab_driver.table import CHIP

Rows = List[Tuple[str, object]]
_NO_CARD = "There is no NPU card on this server."


def listing(view: Dict[str, Any]) -> str:
    """`info -l`."""
    if not view["npus"]:
        return _NO_CARD
    parts = [f"{_row('Total Count', len(view['npus']))}\n"]
    parts += [f"{_row('NPU ID', npu['id'])}\n{_row('Chip Count', 1)}\n" for npu in view["npus"]]
    return "\n".join(parts)


def mapping(view: Dict[str, Any]) -> str:
    """`info -m`: one row per chip, and one for the card's controller, which has no logic id."""
    if not view["npus"]:
        return _NO_CARD
    lines = [f"\t{'NPU ID':<30} {'Chip ID':<30} {'Chip Logic ID':<30} {'Chip Name':<30}"]
    for npu in view["npus"]:
        lines.append(f"\t{npu['id']:<30} {0:<30} {npu['logic']:<30} Ascend {CHIP}")
        lines.append(f"\t{npu['id']:<30} {1:<30} {'-':<30} {'Mcu':<30}")
    return "\n".join(lines)


def detail(kind: str, view: Dict[str, Any], npu: Dict[str, Any], one_chip: bool) -> str:
    """`info -t KIND -i NPU [-c 0]`; asked without a chip, the card's rows frame those of its one chip."""
    width = 40 if kind == "ecc" else 30
    if kind == "board":
        return "\n".join(_row(*pair) for pair in (_chip_board if one_chip else _card_board)(view, npu))
    lines = [_row(name, value, width) for name, value in KINDS[kind](npu)]
    if one_chip:
        return "\n".join(lines)
    head = [_row("NPU ID", npu["id"], width), _row("Chip Count", 1, width), ""]
    return "\n".join([*head, *lines, _row("Chip ID", 0, width)])


def _row(name: str, value: object, width: int = 30) -> str:
    return f"\t{name:<{width}} : {value}"


def _card_board(view: Dict[str, Any], npu: Dict[str, Any]) -> Rows:
    return [
        ("NPU ID", npu["id"]),
        ("Product Name", "NA"),
        ("Model", "NA"),
        ("Manufacturer", "NA"),
        ("Serial Number", "NA"),
        ("Software Version", view["versions"]["driver"]),
        ("Firmware Version", view["versions"]["firmware"]),
        ("Compatibility", npu.get("compatibility", "OK")),
        ("Board ID", "0x34"),
        ("PCB ID", "A"),
        ("BOM ID", 1),
        ("PCIe Bus Info", npu["bus"]),
        ("Slot ID", 0),
        ("Class ID", "NA"),
        ("PCI Vendor ID", "0x19E5"),
        ("PCI Device ID", "0xD802"),
        ("Subsystem Vendor ID", "0x19E5"),
        ("Subsystem Device ID", "0x3000"),
        ("Chip Count", 1),
    ]


def _chip_board(view: Dict[str, Any], npu: Dict[str, Any]) -> Rows:
    die = " ".join(f"{(npu['id'] + 1) * factor & 0xFFFFFFFF:08X}" for factor in (2654435761, 40503, 2246822519, 97, 7))
    return [
        ("NPU ID", npu["id"]),
        ("Chip ID", 0),
        ("Chip Type", "Ascend"),
        ("Chip Name", CHIP),
        ("Chip Version", "V1"),
        ("Board ID", "0x34"),
        ("PCB ID", "NA"),
        ("BOM ID", 1),
        ("VDie ID", die),
        ("NDie ID", die[::-1]),
        ("Chip Position ID", 0),
        ("PCIe Bus Info", npu["bus"]),
        ("Firmware Version", view["versions"]["firmware"]),
    ]


def _health(npu: Dict[str, Any]) -> Rows:
    return [
        ("Health Status", npu["health"]),
        ("Error Code", npu["error_code"] or "NA"),
        ("Error Information", npu["error_information"] or "NA"),
    ]


def _memory(npu: Dict[str, Any]) -> Rows:
    return [
        ("DDR Capacity(MB)", 0),
        ("DDR Clock Speed(MHz)", 0),
        ("HBM Capacity(MB)", npu["hbm_total"]),
        ("HBM Clock Speed(MHz)", 1600),
        ("HBM Temperature(C)", npu["temperature"]),
        ("HBM Manufacturer ID", "0x57"),
    ]


def _ecc(npu: Dict[str, Any]) -> Rows:
    rows: Rows = [("DDR Single Bit Error Count", 0), ("DDR Double Bit Error Count", 0)]
    for text in ("Error Count", "Aggregate Total Err Cnt", "Isolated Pages Count"):
        rows.append((f"HBM Single Bit {text}", npu.get("ecc_single", 0)))
        rows.append((f"HBM Double Bit {text}", npu.get("ecc_double", 0)))
    return rows


def _usages(npu: Dict[str, Any]) -> Rows:
    return [
        ("DDR Capacity(MB)", 0),
        ("DDR Usage Rate(%)", 0),
        ("DDR Hugepages Total(page)", 0),
        ("DDR Hugepages Usage Rate(%)", 0),
        ("HBM Capacity(MB)", npu["hbm_total"]),
        ("HBM Usage Rate(%)", npu["hbm_used"] * 100 // npu["hbm_total"]),
        ("Aicore Usage Rate(%)", npu["aicore"]),
        ("Aivector Usage Rate(%)", 0),
        ("Aicpu Usage Rate(%)", 0),
        ("Ctrlcpu Usage Rate(%)", 0),
        ("DDR Bandwidth Usage Rate(%)", 0),
        ("HBM Bandwidth Usage Rate(%)", 0),
        ("NPU Utilization(%)", npu["aicore"]),
        ("Aicube Usage Rate(%)", npu["aicore"]),
    ]


KINDS: Dict[str, Callable[[Dict[str, Any]], Rows]] = {
    "health": _health,
    "memory": _memory,
    "ecc": _ecc,
    "usages": _usages,
}
