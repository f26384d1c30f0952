# SPDX-License-Identifier: GPL-3.0-or-later
"""What the table does not show: memory errors, the firmware each card runs, capacities. Asked of npu-smi chip by chip."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .driver_findings import ERROR, WARNING, Finding
from .host import Host
from .npu_ask import WORKERS, Unanswered, ask, unanswered
from .npu_chips import Known
from .npu_smi_lists import first, parse_key_values
from .npu_wanted import Wanted

KINDS = ("board", "ecc", "memory", "usages")

Values = Mapping[str, str]


@dataclass(frozen=True)
class Detail:
    """The answers about one chip: kind -> key -> value, as the tool words them. A kind it does not know is absent."""

    known: Known
    answers: Mapping[str, Values]
    unanswered: Tuple[Unanswered, ...] = ()

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data for the module's result."""
        chip = self.known.chip
        found = {kind: dict(self.answers.get(kind, {})) for kind in KINDS if kind in self.answers}
        return {"npu_id": chip.npu_id, "chip_id": chip.chip_id, "phy_id": self.known.phy_id, **found}


def ask_details(
    host: Host, tool: Optional[str], chips: Sequence[Known], kinds: Sequence[str], timeout: float
) -> List[Detail]:
    """Ask for every kind about every chip, side by side. The board belongs to a card, everything else to a chip."""
    places = [known for known in chips if known.chip.npu_id is not None and known.chip.chip_id is not None]
    questions = [(known, kind) for known in places for kind in KINDS if kind in kinds]
    if tool is None or not questions:
        return []
    with ThreadPoolExecutor(WORKERS) as pool:
        lines = {_argv(tool, known, kind): None for known, kind in questions}
        runs = dict(zip(lines, pool.map(lambda argv: ask(host, argv, timeout), lines)))
    answers: Dict[int, Dict[str, Values]] = {}
    silent: Dict[int, List[Unanswered]] = {}
    for known, kind in questions:
        run = runs[_argv(tool, known, kind)]
        values = _values(run.text)
        missed = None if values else unanswered(run, kind, (known.chip.npu_id or 0, known.chip.chip_id or 0))
        if values:
            answers.setdefault(id(known), {})[kind] = values
        elif missed:
            silent.setdefault(id(known), []).append(missed)
    return [Detail(known, answers.get(id(known), {}), tuple(silent.get(id(known), ()))) for known in places]


def _argv(tool: str, known: Known, kind: str) -> Tuple[str, ...]:
    chip = () if kind == "board" else ("-c", str(known.chip.chip_id))
    return (tool, "info", "-t", kind, "-i", str(known.chip.npu_id), *chip)


def _values(text: str) -> Values:
    found = parse_key_values(text)
    return {key: first(found, key) or "" for key in found}


def assess_details(details: Sequence[Detail], wanted: Wanted) -> List[Finding]:
    """Return what the answers say that the table does not."""
    findings: List[Finding] = []
    for detail in details:
        findings += _ecc(detail, wanted) + _capacity(detail, wanted)
    return findings + _compatibility(details) + _firmware(details)


def _ecc(detail: Detail, wanted: Wanted) -> List[Finding]:
    """Uncorrectable errors end the process that reads there; those of the past are a reason to watch the chip."""
    values = detail.answers.get("ecc", {})
    now = _counts(values, "Error Count")
    past = {**_counts(values, "Aggregate Total Err Cnt"), **_counts(values, "Isolated Pages Count")}
    if not now and not past:
        return []
    phy_id = detail.known.phy_id
    shown = ", ".join(f"{key} {count}" for key, count in {**now, **past}.items())
    message = f"{detail.known.chip.label} has uncorrectable memory errors: {shown}."
    remedy = "Restart the server so that the driver isolates the pages; have the card exchanged if the count grows."
    severity = wanted.severity(phy_id) if now else WARNING
    return [Finding("chip.ecc", severity, message, remedy, phy_id)]


def _counts(values: Values, ending: str) -> Dict[str, int]:
    pairs = {key: _int(values[key]) for key in values if "Double Bit" in key and key.endswith(ending)}
    return {key: count for key, count in pairs.items() if count}


def _capacity(detail: Detail, wanted: Wanted) -> List[Finding]:
    """The driver's own capacity of the HBM against the table's: the training plans with the table's."""
    table = detail.known.chip.hbm_total_mb
    for kind in ("usages", "memory"):
        own = _int(detail.answers.get(kind, {}).get("HBM Capacity(MB)", ""))
        if own and table and own != table:
            message = f"{detail.known.chip.label}: the table shows {table} MB of HBM, the chip itself {own} MB."
            remedy = "Look at `dmesg` for isolated memory; restart the server."
            return [Finding("chip.hbm", wanted.severity(detail.known.phy_id), message, remedy, detail.known.phy_id)]
    return []


def _compatibility(details: Sequence[Detail]) -> List[Finding]:
    """The driver's own verdict on its firmware; every card says it, it concerns the host."""
    said = sorted({detail.answers.get("board", {}).get("Compatibility", "") for detail in details} - {"", "OK", "NA"})
    if not said:
        return []
    message = f"The driver says of its firmware: Compatibility {', '.join(said)}."
    return [
        Finding("firmware.incompatible", ERROR, message, "Install the firmware of the driver's release and restart.")
    ]


def _firmware(details: Sequence[Detail]) -> List[Finding]:
    """Name the cards whose firmware is not that of most cards of the host."""
    versions: Dict[str, List[Known]] = {}
    for detail in details:
        version = detail.answers.get("board", {}).get("Firmware Version", "NA")
        if version != "NA":
            versions.setdefault(version, []).append(detail.known)
    if len(versions) < 2:
        return []
    usual = max(versions, key=lambda version: len(versions[version]))
    remedy = "Install the firmware again on this server: an upgrade reached some of its cards only."
    return [
        Finding(
            "firmware.mixed",
            WARNING,
            f"{known.chip.label}: firmware {version}, the other {len(versions[usual])}: {usual}.",
            remedy,
            known.phy_id,
        )
        for version, owners in versions.items()
        for known in owners
        if version != usual
    ]


def _int(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 13 else 0
