# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement over queries that npu-smi left without an answer: pure, no effects. Silence is never taken for health."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from .driver_findings import WARNING, Finding
from .npu_ask import Unanswered
from .npu_chips import Known
from .npu_wanted import Wanted

_HANGS = "The driver hangs: look at `dmesg`, collect `msnpureport`, restart the server; raise `timeout` only if it is just slow."
_FAILS = "Run the query by hand on the host; if it fails there, collect `msnpureport` and restart the server."


def assess_answers(silent: Sequence[Unanswered], chips: Sequence[Known], wanted: Wanted) -> List[Finding]:
    """Return a finding for each chip that left queries unanswered, or for the host where the query is about all of it.

    A health query that hangs is as bad as bad health, since the table prints OK where the driver cannot tell; the rest is a warning.
    """
    by_place: Dict[Optional[Tuple[int, int]], List[Unanswered]] = {}
    for item in silent:
        by_place.setdefault(item.place, []).append(item)
    known = {(chip.chip.npu_id, chip.chip.chip_id): chip for chip in chips}
    return [_finding(items, None if place is None else known.get(place), wanted) for place, items in by_place.items()]


def _finding(items: Sequence[Unanswered], known: Optional[Known], wanted: Wanted) -> Finding:
    said = "; ".join(dict.fromkeys(item.said.rstrip(".") for item in items))
    kinds = ", ".join(dict.fromkeys(item.kind for item in items))
    remedy = _HANGS if any(item.hangs for item in items) else _FAILS
    place = items[0].place
    if place is None:
        message = f"npu-smi does not say which chip has which id ({kinds}): {said}."
        return Finding("npu_smi.no_mapping", WARNING, message, remedy)
    phy_id = known.phy_id if known else None
    label = known.chip.label if known else f"NPU {place[0]} chip {place[1]}"
    severe = any(item.hangs and item.kind == "health" for item in items)
    severity = wanted.severity(phy_id) if severe else WARNING
    unproven = ", so the OK of the table is not confirmed" if any(item.kind == "health" for item in items) else ""
    return Finding("chip.no_answer", severity, f"{label} gives no {kinds}{unproven}: {said}.", remedy, phy_id)
