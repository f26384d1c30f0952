# SPDX-License-Identifier: GPL-3.0-or-later
"""Chips as npu_info returns them: the table's rows joined with ids, generation and the processes that hold them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from .npu_smi import Chip, Process, Table
from .npu_smi_lists import Health, Mapped
from .npu_survey import GENERATIONS, Survey

# First-generation names (910, 910A, 910ProB, 910PremiumA, 910B without a digit) look like those of A2, which has a digit.
_NAMES: Tuple[Tuple[str, str], ...] = (
    (r"950.*", "950"),
    (r"910_?93.*|910C.*", "A3"),
    (r"910B[0-9].*", "A2"),
    (r"910(A|B|Pro[AB]?|Premium[AB]?)?", "910"),
    (r"310P.*", "310P"),
    (r"310B.*", "310B"),
    (r"310", "310"),
)


@dataclass(frozen=True)
class Holder:
    """A process on a chip: a row of the tool's table, a process in /proc that has the node open, or both."""

    pid: int
    name: str
    memory_mb: Optional[int]
    user: Optional[str] = None
    command: Optional[str] = None
    container: Optional[str] = None
    container_id: Optional[str] = None
    since: Optional[str] = None

    def __str__(self) -> str:
        place = f"container {self.container}, " if self.container else ""
        since = f", since {self.since}" if self.since else ""
        user = f"user {self.user}" if self.user else "user unknown"
        return f"pid {self.pid} ({place}{user}, {self.command or self.name or 'name unknown'}{since})"


@dataclass(frozen=True)
class Known:
    """A chip with everything that is known about it. `detail` is the chip's own answer about its health."""

    chip: Chip
    phy_id: Optional[int]
    logic_id: Optional[int]
    generation: Optional[str]
    holders: Tuple[Holder, ...]
    detail: Optional[Health]

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data for the module's result; absent values are None. Units are in the names."""
        chip = self.chip
        return {
            "npu_id": chip.npu_id,
            "chip_id": chip.chip_id,
            "phy_id": self.phy_id,
            "logic_id": self.logic_id,
            "name": chip.name or None,
            "generation": self.generation,
            "health": chip.health,
            "power_w": chip.power_w,
            "temperature_c": chip.temperature_c,
            "aicore_percent": chip.aicore_percent,
            "hbm_used_mb": chip.hbm_used_mb,
            "hbm_total_mb": chip.hbm_total_mb,
            "memory_used_mb": chip.memory_used_mb,
            "memory_total_mb": chip.memory_total_mb,
            "bus_id": chip.bus_id,
            "processes": [dict(vars(holder)) for holder in self.holders],
        }


def known_chips(seen: Survey) -> List[Known]:
    """Join what was seen into chips, in the order of the table."""
    return [_known(chip, seen) for chip in seen.table.chips]


def _known(chip: Chip, seen: Survey) -> Known:
    row = _mapped(chip, seen.mapping)
    phy_id = physical_id(chip, row)
    place = (-1 if chip.npu_id is None else chip.npu_id, -1 if chip.chip_id is None else chip.chip_id)
    return Known(
        chip,
        phy_id,
        logical_id(chip, row),
        _generation(chip, row, seen),
        _holders(chip, phy_id, seen),
        seen.health.get(place),
    )


def _mapped(chip: Chip, mapping: Tuple[Mapped, ...]) -> Optional[Mapped]:
    found = [row for row in mapping if (row.npu_id, row.chip_id) == (chip.npu_id, chip.chip_id)]
    return found[0] if found else None


def physical_id(chip: Chip, row: Optional[Mapped]) -> Optional[int]:
    """Return N of /dev/davinciN.

    A3 prints it. Where a card has one chip (910, A2, 950) it is the NPU id, also in a container. 310 and 310P have arbitrary NPU ids
    and print the device instead.
    """
    if chip.phy_id is not None:
        return chip.phy_id
    if row is not None and row.phy_id is not None:
        return row.phy_id
    return chip.device if chip.device is not None else chip.npu_id


def logical_id(chip: Chip, row: Optional[Mapped]) -> Optional[int]:
    """Return the id that the runtime counts by here: dense, in the order of the physical ids that are accessible."""
    return row.logic_id if row is not None else chip.device


def _generation(chip: Chip, row: Optional[Mapped], seen: Survey) -> Optional[str]:
    """Name the generation, from the PCI bus where it is visible there; None rather than a guess."""
    device = seen.pci.get((chip.bus_id or "").lower())
    if device:
        return GENERATIONS[device]
    return generation_of(chip.name, seen.table) or (generation_of(row.name, seen.table) if row else None)


def generation_of(name: str, table: Table) -> Optional[str]:
    """Name the generation by a chip's name. A3 prints plain `Ascend910`, and only its Phy-ID column tells."""
    if table.has_phy_id:
        return "A3"
    short = re.sub(r"(?i)^ascend\s*", "", name.strip())
    return next((generation for pattern, generation in _NAMES if re.fullmatch(pattern, short)), None)


def _holders(chip: Chip, phy_id: Optional[int], seen: Survey) -> Tuple[Holder, ...]:
    """Join the tool's process rows with what /proc shows, one entry a process."""
    rows = {row.pid: row for row in seen.table.processes if _is_on(row, chip)}
    pids = set(rows) | set(seen.holders.by_npu.get(-1 if phy_id is None else phy_id, ()))
    return tuple(holder_of(pid, seen, rows.get(pid)) for pid in sorted(pids))


def _is_on(row: Process, chip: Chip) -> bool:
    return row.npu_id == chip.npu_id and row.chip_id in (None, chip.chip_id)


def holder_of(pid: int, seen: Survey, row: Optional[Process] = None) -> Holder:
    """Return who a process is, from the tool's row (if it has one) and /proc."""
    owner = seen.owners.get(pid)
    name = (row.name if row else "") or (owner.name if owner else "")
    memory = row.memory_mb if row else None
    if owner is None:
        return Holder(pid, name, memory)
    return Holder(pid, name, memory, owner.user, owner.command, owner.container, owner.container_id, owner.since)
