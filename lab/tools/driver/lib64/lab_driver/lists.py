# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists of npu-smi: `info -l`, `info -m` and `info -t TYPE -i NPU`, tab-indented names and values."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

Rows = List[Tuple[str, object]]
_NO_CARD = "There is no NPU card on this server."


def listing(view: Dict[str, Any]) -> str:
    """`info -l`."""
    if not view["npus"]:
        return _NO_CARD
    counts: Dict[int, int] = {}
    for npu in view["npus"]:
        counts[npu["id"]] = counts.get(npu["id"], 0) + 1
    parts = [f"{_row('Total Count', len(counts))}\n"]
    parts += [f"{_row('NPU ID', card)}\n{_row('Chip Count', count)}\n" for card, count in counts.items()]
    return "\n".join(parts)


def mapping(view: Dict[str, Any]) -> str:
    """`info -m`: one row per chip, and one for the card's controller, which has no logic id."""
    if not view["npus"]:
        return _NO_CARD
    model = view["model"]
    columns = ["NPU ID", "Chip ID", "Chip Logic ID", *(["Chip Phy-ID"] if model["dies"] > 1 else [])]
    lines = [_columns([*columns, "Chip Name"])]
    for npu in view["npus"]:
        ids = [npu["id"], npu["chip"], npu["logic"], *([npu["phy"]] if model["dies"] > 1 else [])]
        lines.append(_columns([*ids, model["full_name"]]))
        if npu is [other for other in view["npus"] if other["id"] == npu["id"]][-1]:
            dashes = ["-"] * (len(columns) - 2)
            lines.append(_columns([npu["id"], model["dies"], *dashes, "Mcu"]))
    return "\n".join(lines)


def _columns(cells: List[Any]) -> str:
    *ids, name = cells
    return "\t" + "".join(f"{cell:<30} " for cell in ids) + str(name)


def detail(kind: str, view: Dict[str, Any], chips: List[Dict[str, Any]], one_chip: bool) -> str:
    """`info -t KIND -i NPU [-c CHIP]` about the chips of one card; asked without a chip, the card's rows frame those of its chips."""
    width = 40 if kind == "ecc" else 30
    if kind == "board":
        rows = _chip_board(view, chips[0]) if one_chip else _card_board(view, chips)
        return "\n".join(_row(*pair) for pair in rows)
    blocks = ["\n".join(_row(name, value, width) for name, value in KINDS[kind](npu)) for npu in chips]
    if one_chip:
        return blocks[0]
    lines = [_row("NPU ID", chips[0]["id"], width), _row("Chip Count", len(chips), width)]
    for npu, block in zip(chips, blocks):
        lines += ["", block, _row("Chip ID", npu["chip"], width)]
    return "\n".join(lines)


def _row(name: str, value: object, width: int = 30) -> str:
    return f"\t{name:<{width}} : {value}"


def _card_board(view: Dict[str, Any], chips: List[Dict[str, Any]]) -> Rows:
    npu = chips[0]
    return [
        ("NPU ID", npu["id"]),
        ("Product Name", "NA"),
        ("Model", "NA"),
        ("Manufacturer", "NA"),
        ("Serial Number", "NA"),
        ("Software Version", view["versions"]["driver"]),
        ("Firmware Version", npu.get("firmware", view["versions"]["firmware"])),
        ("Compatibility", npu.get("compatibility", "OK")),
        ("Board ID", "0x34"),
        ("PCB ID", "A"),
        ("BOM ID", 1),
        ("PCIe Bus Info", npu["bus"]),
        ("Slot ID", 0),
        ("Class ID", "NA"),
        ("PCI Vendor ID", "0x19E5"),
        ("PCI Device ID", view["model"]["pci_device"]),
        ("Subsystem Vendor ID", "0x19E5"),
        ("Subsystem Device ID", "0x3000"),
        ("Chip Count", len(chips)),
    ]


def _chip_board(view: Dict[str, Any], npu: Dict[str, Any]) -> Rows:
    die = " ".join(f"{(npu['phy'] + 1) * factor & 0xFFFFFFFF:08X}" for factor in (2654435761, 40503, 2246822519, 97, 7))
    return [
        ("NPU ID", npu["id"]),
        ("Chip ID", npu["chip"]),
        ("Chip Type", "Ascend"),
        ("Chip Name", view["model"]["chip"]),
        ("Chip Version", "V1"),
        ("Board ID", "0x34"),
        ("PCB ID", "NA"),
        ("BOM ID", 1),
        ("VDie ID", die),
        ("NDie ID", die[::-1]),
        ("Chip Position ID", npu["chip"]),
        ("PCIe Bus Info", npu["bus"]),
        ("Firmware Version", view["versions"]["firmware"]),
        *([("NPU Name", view["model"]["variant"])] if view["model"]["variant"] else []),
    ]


def _health(npu: Dict[str, Any]) -> Rows:
    return [
        ("Health Status", npu["health"]),
        ("Error Code", npu["error_code"] or "NA"),
        ("Error Information", npu["error_information"] or "NA"),
    ]


def _memory(npu: Dict[str, Any]) -> Rows:
    return [
        ("DDR Capacity(MB)", npu["ddr_total"]),
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
        ("DDR Capacity(MB)", npu["ddr_total"]),
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
