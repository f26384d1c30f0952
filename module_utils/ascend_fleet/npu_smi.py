# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what `npu-smi info` prints: text to frozen dataclasses, without effects.

One chip is two adjacent rows. Reading is strict about that, because a row of one chip under the row of another would make a sick
chip look healthy: a row that cannot be read, or stands alone, becomes a problem of the table and never silently disappears.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import List, Optional, Tuple

from . import npu_smi_rows as rows
from .npu_smi_rows import Line, Sensors, Usage


@dataclass(frozen=True)
class Process:
    """A row of the process table. `pid` is the host's, as the driver sees it; the name may be empty; memory in MB."""

    npu_id: int
    chip_id: Optional[int]
    pid: int
    name: str
    memory_mb: Optional[int]
    container_pid: Optional[int] = None


@dataclass(frozen=True)
class Chip:
    """One chip as the table shows it; what is absent or unreadable is None. `device` is the column of that name (310, 310P)."""

    npu_id: Optional[int]
    chip_id: Optional[int]
    name: str = ""
    health: Optional[str] = None
    power_w: Optional[float] = None
    temperature_c: Optional[int] = None
    phy_id: Optional[int] = None
    device: Optional[int] = None
    bus_id: Optional[str] = None
    aicore_percent: Optional[int] = None
    memory_used_mb: Optional[int] = None
    memory_total_mb: Optional[int] = None
    hbm_used_mb: Optional[int] = None
    hbm_total_mb: Optional[int] = None

    @property
    def label(self) -> str:
        """Return what to call the chip in a message."""
        npu = "of unknown id" if self.npu_id is None else str(self.npu_id)
        return f"NPU {npu}" + (f" chip {self.chip_id}" if self.chip_id else "")


@dataclass(frozen=True)
class Problem:
    """What cannot be as the tool printed it. Kinds: damaged, orphan, incomplete, health, duplicate, gap, repeated."""

    kind: str
    line: int
    text: str


@dataclass(frozen=True)
class Table:
    """All of one output. `columns` is (text has an HBM column, has a Phy-ID column), None without a header."""

    tool_version: Optional[str]
    driver_version: Optional[str]
    chips: Tuple[Chip, ...]
    processes: Tuple[Process, ...]
    idle_npus: Tuple[int, ...]
    problems: Tuple[Problem, ...]
    notes: Tuple[str, ...]
    has_hbm: Optional[bool] = None
    has_phy_id: bool = False


@dataclass(frozen=True)
class _FirstRow:
    line: Line
    npu_id: int
    name: str
    health: Optional[str]
    sensors: Sensors


class _Reader:
    """Collects while the lines go by. `pending` is a first row that waits for its second."""

    def __init__(self) -> None:
        self.title: Optional[Tuple[str, str]] = None
        self.chips: List[Chip] = []
        self.processes: List[Process] = []
        self.idle: List[int] = []
        self.problems: List[Problem] = []
        self.notes: List[str] = []
        self.pending: Optional[_FirstRow] = None
        self.in_processes = False
        self.process_columns = 4
        self.has_hbm: Optional[bool] = None
        self.has_phy_id = False

    def problem(self, kind: str, line: Line) -> None:
        self.problems.append(Problem(kind, line.number, line.text))

    def flush(self) -> None:
        """End a chip whose second row did not come."""
        if self.pending:
            first, self.pending = self.pending, None
            self.problem("incomplete", first.line)
            self.chips.append(_chip(first, None))

    def header(self, line: Line) -> None:
        self.flush()
        text = line.text
        if "Bus-Id" in text:
            if self.has_hbm is not None:
                self.problem("repeated", line)
            self.has_hbm = "HBM" in text
            self.has_phy_id = "Phy-ID" in text
        chips = "Health" in text or "Bus-Id" in text
        self.in_processes = not chips
        self.process_columns = self.process_columns if chips else len(line.cells)

    def process(self, line: Line) -> None:
        process = _process(line, self.process_columns)
        if process is None or not line.closed:
            self.problem("damaged", line)
        if process:
            self.processes.append(process)

    def first(self, line: Line) -> None:
        self.flush()
        identity = rows.identity(line.cells[:-2])
        sensors = rows.sensors(line.cells[-1])
        health = line.cells[-2] if line.cells[-2] in rows.HEALTH_STATES else None
        if identity is None or sensors is None or not line.closed:
            self.problem("damaged", line)
        if health is None:
            self.problem("health", line)
        if identity:
            self.pending = _FirstRow(line, identity[0], identity[1], health, sensors or Sensors(None, None))

    def second(self, line: Line) -> None:
        first, self.pending = self.pending, None
        if first is None:
            self.problem("orphan", line)
        usage = rows.usage(line.cells[-1])
        place = rows.ids(line.cells[0]) if len(line.cells) == 3 else (0, None)
        bus = rows.bus_id(line.cells[-2])
        readable = usage and place and (bus or line.cells[-2] in ("NA", "-", "")) and line.closed
        if not readable or (self.has_hbm and usage and usage.pairs < 2):
            self.problem("damaged", line)
        self.chips.append(_place(_chip(first, usage), place, bus, usage))

    def row(self, line: Line) -> None:
        """Sort a line with cells into its kind."""
        title, idle = rows.versions(line), rows.idle_npu(line)
        if title:
            self.flush()
            if self.title:
                self.problem("repeated", line)
            self.title = self.title or title
        elif idle is not None:
            self.idle.append(idle)
        elif rows.is_header(line):
            self.header(line)
        elif _looks_like_process(line) or (self.in_processes and len(line.cells) > 2):
            self.process(line)
        elif len(line.cells) not in (3, 4):
            self.problem("damaged", line)
        elif _is_second_row(line, self.pending is not None):
            self.second(line)
        else:
            self.first(line)


def parse_info(text: str) -> Table:
    """Read the whole output of `npu-smi info`. Never fails: what cannot be read is in `problems`, other text in `notes`."""
    reader = _Reader()
    for number, raw in enumerate(rows.without_colours(text).splitlines(), start=1):
        line = rows.split_line(raw, number)
        if line is not None:
            reader.row(line)
        elif rows.is_rule(raw):
            reader.flush()
        elif raw.strip():
            reader.notes.append(raw.strip())
    reader.flush()
    tool, driver = reader.title or (None, None)
    problems = reader.problems + _doubles(reader.chips) + _gaps(reader.chips)
    return Table(
        tool,
        driver,
        tuple(reader.chips),
        tuple(reader.processes),
        tuple(reader.idle),
        tuple(problems),
        tuple(reader.notes),
        reader.has_hbm,
        reader.has_phy_id,
    )


def _looks_like_process(line: Line) -> bool:
    """A process row is known by its shape, because its header is not always there and not always English."""
    return len(line.cells) >= 4 and rows.ids(line.cells[0]) is not None and rows.number(line.cells[1]) is not None


def _is_second_row(line: Line, waiting: bool) -> bool:
    """Tell a chip's second row from its first; where damage leaves both possible, what is waited for decides."""
    state = line.cells[-2]
    if state in rows.HEALTH_STATES:
        return False
    if len(line.cells) == 4:
        return not line.cells[0] and not line.cells[1]
    if rows.bus_id(state):
        return True
    return rows.ids(line.cells[0]) is not None and (waiting or state in ("NA", "-", ""))


def _process(line: Line, columns: int) -> Optional[Process]:
    """Read a process row. A name may be empty and may contain `|`; a fifth column is the pid in the container."""
    cells = line.cells
    place = rows.ids(cells[0])
    pid = rows.number(cells[1]) if len(cells) >= 4 else None
    if place is None or pid is None:
        return None
    tail = 2 if columns >= 5 and len(cells) >= 5 else 1
    memory = rows.number(cells[-tail])
    inside = rows.number(cells[-1]) if tail == 2 else None
    return Process(place[0], place[1], pid, "|".join(cells[2:-tail]), memory, inside)


def _chip(first: Optional[_FirstRow], usage: Optional[Usage]) -> Chip:
    """Start a chip from its first row, or an orphan from none."""
    if first is None:
        return Chip(None, None)
    sensors = first.sensors
    return Chip(first.npu_id, None, first.name, first.health, sensors.power_w, sensors.temperature_c)


def _place(chip: Chip, place: Optional[Tuple[int, Optional[int]]], bus: Optional[str], usage: Optional[Usage]) -> Chip:
    """Add the second row. One used/total pair is memory, two are memory and HBM; a second id is Device or Phy-ID."""
    chip_id, second_id = place or (None, None)
    chip = replace(chip, chip_id=chip_id, bus_id=bus)
    if usage is None:
        return chip
    chip = replace(chip, aicore_percent=usage.aicore_percent)
    chip = replace(chip, memory_used_mb=usage.first[0], memory_total_mb=usage.first[1])
    if usage.pairs == 1:
        return replace(chip, device=second_id)
    return replace(chip, phy_id=second_id, hbm_used_mb=usage.second[0], hbm_total_mb=usage.second[1])


def _doubles(chips: List[Chip]) -> List[Problem]:
    """Name chips that stand in the table twice."""
    places = [(chip.npu_id, chip.chip_id) for chip in chips if chip.npu_id is not None and chip.chip_id is not None]
    doubles = sorted({place for place in places if places.count(place) > 1})
    return [
        Problem("duplicate", 0, f"NPU {npu} chip {chip} stands there {places.count((npu, chip))} times")
        for npu, chip in doubles
    ]


def _gaps(chips: List[Chip]) -> List[Problem]:
    """Name NPUs that show a later chip without an earlier one: half of a card is missing, or its rows are."""
    problems = []
    for npu in sorted({chip.npu_id for chip in chips if chip.npu_id is not None}):
        seen = {chip.chip_id for chip in chips if chip.npu_id == npu and chip.chip_id is not None}
        missing = sorted(set(range(max(seen, default=0))) - seen) if max(seen, default=0) < 16 else sorted(seen)
        if missing:
            problems.append(Problem("gap", 0, f"NPU {npu} shows chips {sorted(seen)} but not {missing}"))
    return problems
