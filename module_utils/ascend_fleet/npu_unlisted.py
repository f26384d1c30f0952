# SPDX-License-Identifier: GPL-3.0-or-later
"""Chips that npu-smi itself speaks of elsewhere, or that are expected by number, and that its table does not show. Pure, no effects."""

from __future__ import annotations

from typing import AbstractSet, Dict, List, Optional, Tuple

from .driver_findings import ERROR, WARNING, Finding
from .npu_survey import Survey
from .npu_wanted import Wanted

Place = Tuple[int, Optional[int]]  # (NPU, chip); no chip where the whole card is meant


def wrong_number(shown: int, wanted: Wanted) -> List[Finding]:
    """Compare how many chips the table shows with how many were asked for."""
    if wanted.count is None or shown == wanted.count:
        return []
    message = f"npu-smi shows {shown} chips, expected are {wanted.count}."
    if shown > wanted.count:
        return [Finding("chip.count", WARNING, message, "Correct expected_chips, or list the chips that are needed.")]
    remedy = "A card dropped off or was never there: look at `dmesg`, power the server off and on, or correct expected_chips."
    return [Finding("chip.count", ERROR, message, remedy)]


def unlisted(seen: Survey, wanted: Wanted, said: AbstractSet[Optional[int]]) -> List[Finding]:
    """Name what `npu-smi info -m` or the table of processes lists and the table of chips does not. `said`: named already."""
    findings = []
    for place, source in _elsewhere(seen).items():
        phy_id = _physical(place, seen)
        if phy_id is not None and phy_id in said:
            continue
        label = f"NPU {place[0]}" + (f" chip {place[1]}" if place[1] else "")
        message = f"{label} is in {source} but not in the table of chips."
        remedy = (
            "The card dropped off, or its rows were lost: compare with `npu-smi info` run by hand, look at `dmesg`."
        )
        findings.append(Finding("chip.missing", wanted.severity(phy_id), message, remedy, phy_id))
    return findings


def _elsewhere(seen: Survey) -> Dict[Place, str]:
    """Return the places that are not in the table of chips, and who lists them."""
    shown = {(chip.npu_id, chip.chip_id) for chip in seen.table.chips}
    npus = {chip.npu_id for chip in seen.table.chips}
    found: Dict[Place, str] = {
        (row.npu_id, row.chip_id): "`npu-smi info -m`" for row in seen.mapping if (row.npu_id, row.chip_id) not in shown
    }
    named = {npu for npu, _ in found} | npus
    others = {*seen.table.idle_npus, *(row.npu_id for row in seen.table.processes)} - named
    return {**found, **{(npu, None): "the table of processes" for npu in sorted(others)}}


def _physical(place: Place, seen: Survey) -> Optional[int]:
    """Return the physical id: the mapping's, or the NPU's where a card has one chip; None where neither tells."""
    for row in seen.mapping:
        if (row.npu_id, row.chip_id) == place and row.phy_id is not None:
            return row.phy_id
    return place[0] if seen.table.has_hbm and not seen.table.has_phy_id else None
