# SPDX-License-Identifier: GPL-3.0-or-later
"""The single lines of `npu-smi info`: cells and what stands in them.

Lines are split on `|` and never cut by position: widths differ between versions, and a name that is longer than its column pushes
everything behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Optional, Tuple

HEALTHY = "OK"
HEALTH_STATES = (HEALTHY, "Warning", "Alarm", "Critical", "UNKNOWN")

_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]")
_RULE = re.compile(r"\+[-=+]{3,}\+?")
_VERSIONS = re.compile(r"npu-smi\s+(\S+)\s+Version:\s*(\S+)")
_IDLE = re.compile(r"No running processes found in NPU\s+([0-9]{1,12})")
_BUS_ID = re.compile(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]{1,2}")
# Numbers are bounded: no real one is longer, and a damaged line must not become a number that Python refuses to convert.
_N = r"[0-9]{1,12}"
_IDS = re.compile(rf"({_N})(?:\s+({_N}))?")
_IDENTITY = re.compile(rf"({_N})(?:\s+(\S.*))?")
_NUMBER = re.compile(rf"NA|-|{_N}(?:\.[0-9]{{1,6}})?")
_PAIR = rf"({_N}|NA|-)\s*/\s*({_N}|NA|-)"
_SENSORS = re.compile(r"(\S+)\s+(\S+)(?:\s+" + _PAIR + r")?")
_USAGE = re.compile(r"(\S+)\s+" + _PAIR + r"(?:\s+" + _PAIR + r")?")


@dataclass(frozen=True)
class Line:
    """A line with cells. `closed` is False where its last `|` is missing: the line was cut off."""

    number: int
    cells: Tuple[str, ...]
    closed: bool

    @property
    def text(self) -> str:
        """Return the line for a message."""
        return " | ".join(self.cells)


@dataclass(frozen=True)
class Sensors:
    """First row of a chip, third cell: watts, degrees Celsius. None where the tool prints NA or `-`."""

    power_w: Optional[float]
    temperature_c: Optional[int]


@dataclass(frozen=True)
class Usage:
    """Second row of a chip, third cell: percent and MB. `pairs` says how many used/total pairs stood there."""

    aicore_percent: Optional[int]
    first: Tuple[Optional[int], Optional[int]]
    second: Tuple[Optional[int], Optional[int]]
    pairs: int


def without_colours(text: str) -> str:
    """Return a text without what only a terminal shows, as in an output that was pasted or passed through a pager."""
    return _COLOUR.sub("", text)


def is_rule(text: str) -> bool:
    """Say whether a line is one of the table's horizontal rules, whatever was pasted before or after it."""
    return _RULE.search(text) is not None


def split_line(text: str, number: int) -> Optional[Line]:
    """Return the cells between the `|` of a line; what was pasted before the first one is dropped. None without any."""
    _, bar, rest = text.partition("|")
    if not bar:
        return None
    parts = rest.split("|")
    closed = len(parts) > 1 and not parts[-1].strip()
    if closed:
        parts.pop()
    return Line(number, tuple(part.strip() for part in parts), closed)


def versions(line: Line) -> Optional[Tuple[str, str]]:
    """Return (tool version, driver version) from the table's title."""
    found = _VERSIONS.search(line.text)
    return (found.group(1), found.group(2)) if found else None


def idle_npu(line: Line) -> Optional[int]:
    """Return the NPU id of a `No running processes` line."""
    found = _IDLE.search(line.text)
    return int(found.group(1)) if found else None


def is_header(line: Line) -> bool:
    """Say whether a line names columns: its first cell starts with NPU or Chip, in front of other names and not of numbers."""
    first = line.cells[0].split()[:1]
    if len(line.cells) < 3:
        return False
    if first in (["NPU"], ["Chip"]):
        return True
    return not first and any(word in line.text for word in ("Bus-Id", "AICore", "NPU Util"))


def bus_id(cell: str) -> Optional[str]:
    """Return the PCI address in a cell as it is printed (`0000:C1:00.0`), or None."""
    found = _BUS_ID.fullmatch(cell)
    return cell if found else None


def ids(cell: str) -> Optional[Tuple[int, Optional[int]]]:
    """Return one or two numbers that fill a cell, or None."""
    found = _IDS.fullmatch(cell)
    if not found:
        return None
    return int(found.group(1)), None if found.group(2) is None else int(found.group(2))


def number(cell: str) -> Optional[int]:
    """Return the whole number that fills a cell, or None."""
    return int(cell) if re.fullmatch(_N, cell) else None


def identity(cells: Tuple[str, ...]) -> Optional[Tuple[int, str]]:
    """Return (NPU id, name) from the leading cells of a chip's first row: one cell, or two in the layout of the 950."""
    found = _IDENTITY.fullmatch(" ".join(cells).strip())
    return (int(found.group(1)), found.group(2) or "") if found else None


def sensors(cell: str) -> Optional[Sensors]:
    """Read power and temperature; the hugepages behind them are absent in old versions and of no interest."""
    found = _SENSORS.fullmatch(cell)
    if not found:
        return None
    power, temperature = found.group(1), found.group(2)
    if not (_is_number(power) and _is_number(temperature)):
        return None
    return Sensors(_float(power), _int(temperature))


def usage(cell: str) -> Optional[Usage]:
    """Read AICore use and one or two used/total pairs; the blank before the total is missing when a number fills its column."""
    found = _USAGE.fullmatch(cell)
    if not found or not _is_number(found.group(1)):
        return None
    groups: List[Optional[str]] = list(found.groups())
    first, second = (_int(groups[1]), _int(groups[2])), (_int(groups[3]), _int(groups[4]))
    return Usage(_int(groups[0]), first, second, 1 if groups[3] is None else 2)


def _is_number(token: str) -> bool:
    return _NUMBER.fullmatch(token) is not None


def _float(token: Optional[str]) -> Optional[float]:
    return None if token in (None, "NA", "-") else float(str(token))


def _int(token: Optional[str]) -> Optional[int]:
    value = _float(token)
    return None if value is None else int(value)
