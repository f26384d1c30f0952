# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the answers of npu-smi that are not the table: `info -m` (which chip has which id) and `info -t ...` (key : value)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

_KEY_VALUE = re.compile(r"^\s*([^:]*?)\s*:\s?(.*)$")
_GAP = re.compile(r"\t+\s*| {2,}")
_NUMBER = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True)
class Mapped:
    """A row of `npu-smi info -m`. Management controllers (Mcu) have no logical id and are left out."""

    npu_id: int
    chip_id: int
    logic_id: int
    phy_id: Optional[int]
    name: str


@dataclass(frozen=True)
class Health:
    """Answer of `npu-smi info -t health`: the state, the error codes (empty for none), and what they mean."""

    status: str
    error_codes: Tuple[str, ...]
    information: Tuple[str, ...]


def parse_mapping(text: str) -> Tuple[Mapped, ...]:
    """Read `npu-smi info -m`, by the names of its columns: A3 adds `Chip Phy-ID`, the 950 `Slot ID`."""
    columns: List[str] = []
    found: List[Mapped] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in _GAP.split(line.strip()) if cell.strip()]
        if cells[:1] == ["NPU ID"]:
            columns = cells
        elif columns and len(cells) == len(columns):
            row = _mapped(dict(zip(columns, cells)))
            found += [row] if row else []
    return tuple(found)


def _mapped(row: Dict[str, str]) -> Optional[Mapped]:
    npu, logic = _number(row.get("NPU ID")), _number(row.get("Chip Logic ID"))
    chip = _number(row.get("Chip ID", "0"))
    if npu is None or chip is None or logic is None:
        return None
    return Mapped(npu, chip, logic, _number(row.get("Chip Phy-ID")), row.get("Chip Name", ""))


def _number(text: Optional[str]) -> Optional[int]:
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def parse_key_values(text: str) -> Dict[str, List[str]]:
    """Read `key : value` lines; a line with an empty key continues the one before. A repeated key keeps its first block."""
    values: Dict[str, List[str]] = {}
    key = ""
    for line in text.splitlines():
        found = _KEY_VALUE.match(line)
        if not found:
            continue
        if found.group(1):
            key = found.group(1)
            if key in values:
                break
            values[key] = []
        if key and found.group(2).strip():
            values[key].append(found.group(2).strip())
    return values


def parse_health(text: str) -> Optional[Health]:
    """Read `npu-smi info -t health`; None where the answer has no health in it."""
    values = parse_key_values(text)
    status = first(values, "Health Status") or first(values, "Health")
    if status is None:
        return None
    codes = [code for part in values.get("Error Code", []) for code in part.split() if code != "NA"]
    information = [part for part in values.get("Error Information", []) if part != "NA"]
    return Health(status, tuple(codes), tuple(information))


def first(values: Dict[str, List[str]], key: str) -> Optional[str]:
    """Return the first value under a key."""
    found: Sequence[str] = values.get(key, [])
    return found[0] if found else None
