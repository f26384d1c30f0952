# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement over one host's survey: pure, no effects. Every rule returns findings; nothing here decides what happens then."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from .driver_findings import ERROR, INFO, WARNING, Cause, Finding
from .npu_chips import Holder, Known, holder_of
from .npu_smi import Problem
from .npu_smi_errors import INCOMPLETE, explain
from .npu_smi_rows import HEALTHY
from .npu_survey import Survey
from .npu_unlisted import unlisted, wrong_number
from .npu_wanted import Wanted
from .version_files import VersionFile, older, within

_BY_HAND = "Compare with `npu-smi info` run by hand on the host; if it looks the same there, restart the server."


def assess(seen: Survey, chips: Sequence[Known], wanted: Wanted) -> Tuple[List[Finding], List[Cause]]:
    """Return everything that is wrong on the host, and the causes where npu-smi refused to answer."""
    findings, causes = _tool(seen)
    findings += _incomplete(seen)
    if seen.table.chips or seen.table.has_hbm is not None:  # else it is no table, and what it says is a finding already
        findings += [_table_problem(problem) for problem in seen.table.problems]
    for known in chips:
        findings += _health(known, wanted) + _busy(known, wanted)
    findings += _missing(seen, chips, wanted) + _hidden_holders(seen, chips, wanted)
    findings += _nodes(seen, chips, wanted) + _versions(seen)
    findings += _too_old(seen, wanted) + _firmware_too_old(seen, wanted) + _unreadable(seen)
    return findings, causes


def _tool(seen: Survey) -> Tuple[List[Finding], List[Cause]]:
    """Say why there is no chip in the answer, or that an answer with chips ended badly."""
    run = seen.run
    command = " ".join(run.argv)
    if run.failure == "missing":
        remedy = "Install the NPU driver (it brings npu-smi), or set driver_check_npu_smi to where the tool is."
        return [Finding("npu_smi.missing", ERROR, f"{run.message}, so nothing is known about its NPUs.", remedy)], []
    if run.failure:
        remedy = "The driver hangs: look at `dmesg`, collect `msnpureport`, restart the server."
        return [Finding("npu_smi.no_answer", ERROR, run.message, remedy)], []
    if not seen.table.chips:
        finding, causes = explain(run.text, run.rc, seen.evidence)
        return [finding], causes
    if run.rc:
        message = f"`{command}` shows {len(seen.table.chips)} chips but ended with status {run.rc}."
        return [Finding("npu_smi.status", WARNING, message, _BY_HAND)], []
    return [], []


def _incomplete(seen: Survey) -> List[Finding]:
    if INCOMPLETE not in seen.run.text:
        return []
    why = {
        "directory": f"{seen.versions.install.path} is a directory, which Docker makes when it mounts a file that is not there",
        "absent": f"{seen.versions.install.path} is not there",
        "closed": f"{seen.versions.install.path} cannot be read by this user",
    }.get(seen.versions.install.state, f"{seen.versions.install.path} has no line Driver_Install_Status=complete")
    remedy = (
        f"Remove the empty directory {seen.versions.install.path} and put the file back (often beside it as .bak)."
        if seen.versions.install.state == "directory"
        else "Reinstall the driver, or restore the file from its backup."
    )
    return [
        Finding(
            "driver.incomplete", WARNING, f"npu-smi says that the driver is not completely installed: {why}.", remedy
        )
    ]


def _table_problem(problem: Problem) -> Finding:
    """A table that is not as the tool prints it is never taken for healthy."""
    what = {
        "damaged": "a line of the table cannot be read",
        "orphan": "a chip has no first row, so its id and health are unknown (the driver has no valid health state for it)",
        "incomplete": "a chip has no second row",
        "health": "a health state is none of OK, Warning, Alarm, Critical, UNKNOWN",
        "duplicate": "a chip stands in the table more than once",
        "gap": "a chip of a card is missing",
        "repeated": "a title stands there twice, as where two outputs ran into each other",
    }[problem.kind]
    where = f"line {problem.line}: " if problem.line else ""
    return Finding(f"table.{problem.kind}", ERROR, f"npu-smi info: {what} ({where}{problem.text[:160]!r}).", _BY_HAND)


def _health(known: Known, wanted: Wanted) -> List[Finding]:
    """Judge the table's health and the chip's own; the worse one counts."""
    label = _label(known)
    severity = wanted.severity(known.phy_id)
    shown, detail = known.chip.health, known.detail
    codes = f", error code {' '.join(detail.error_codes)}" if detail and detail.error_codes else ""
    meaning = f" ({'; '.join(detail.information)})" if detail and detail.information else ""
    remedy = "Look the error code up, collect `msnpureport`, restart the server; replace the card if it stays."
    if shown is None:
        return [
            Finding("chip.health", severity, f"{label}: its health is unknown{codes}{meaning}.", remedy, known.phy_id)
        ]
    if shown != HEALTHY:
        return [Finding("chip.health", severity, f"{label}: health is {shown}{codes}{meaning}.", remedy, known.phy_id)]
    if detail and detail.status != HEALTHY:
        message = f"{label}: the table says OK, the chip itself says {detail.status}{codes}{meaning}."
        return [Finding("chip.health", severity, message, remedy, known.phy_id)]
    return []


def _label(known: Known) -> str:
    phy = f" (davinci{known.phy_id})" if known.phy_id is not None and known.phy_id != known.chip.npu_id else ""
    return f"{known.chip.label}{phy}"


def _busy(known: Known, wanted: Wanted) -> List[Finding]:
    """A chip is busy when a process holds it; memory in use says nothing, an idle A2 shows 3 to 4 GB."""
    return _held(_label(known), known.phy_id, known.holders, wanted)


def _held(label: str, phy_id: Optional[int], holders: Sequence[Holder], wanted: Wanted) -> List[Finding]:
    others = [str(holder) for holder in holders if not _allowed(holder, wanted)]
    if not others:
        return []
    needed = phy_id in wanted.chips
    remedy = "Wait for it, stop it, or give this run other NPUs (ascend_npus). Nothing is ended from here."
    return [Finding("chip.busy", ERROR if needed else INFO, f"{label} is held by {', '.join(others)}.", remedy, phy_id)]


def _hidden_holders(seen: Survey, chips: Sequence[Known], wanted: Wanted) -> List[Finding]:
    """Report who holds a chip that the table does not show."""
    shown = {known.phy_id for known in chips}
    findings = []
    for phy_id in sorted(set(seen.holders.by_npu) - shown):
        holders = [holder_of(pid, seen) for pid in seen.holders.by_npu[phy_id]]
        findings += _held(f"NPU {phy_id}", phy_id, holders, wanted)
    return findings


def _allowed(holder: Holder, wanted: Wanted) -> bool:
    return bool(wanted.container) and holder.container == wanted.container


def _missing(seen: Survey, chips: Sequence[Known], wanted: Wanted) -> List[Finding]:
    """Compare the table with the device nodes, the PCI bus, what else npu-smi says and what the run needs."""
    if not seen.table.chips:
        return []  # what the tool said instead is a finding of its own
    shown = {known.phy_id for known in chips if known.phy_id is not None}
    nodes = {node.phy_id for node in seen.nodes}
    findings = [_absent(phy_id, seen, f"it shows {sorted(shown)}") for phy_id in sorted(wanted.chips - shown)]
    for phy_id in sorted(nodes - shown - wanted.chips):
        message = f"/dev/davinci{phy_id} is there but npu-smi does not show its chip (it shows {sorted(shown)})."
        remedy = "The card dropped off or does not start: look at `dmesg`; power the server off and on."
        findings.append(Finding("chip.missing", wanted.severity(phy_id), message, remedy, phy_id))
    findings += unlisted(seen, wanted, said={finding.chip for finding in findings})
    return findings + wrong_number(len(chips), wanted) + _off_bus(seen) + _duplicate_ids(chips)


def _absent(phy_id: int, seen: Survey, shown: str) -> Finding:
    node = "its node is there" if phy_id in {node.phy_id for node in seen.nodes} else "its node is not there"
    message = f"NPU {phy_id} is needed and npu-smi does not show it ({shown}); /dev/davinci{phy_id}: {node}."
    remedy = (
        "The card dropped off or was never there: look at `dmesg`, power the server off and on, or change ascend_npus."
    )
    return Finding("chip.missing", ERROR, message, remedy, phy_id)


def _off_bus(seen: Survey) -> List[Finding]:
    """More chips on the bus than in the table: the driver did not start them all."""
    shown = {(chip.bus_id or "").lower() for chip in seen.table.chips}
    hidden = sorted(set(seen.pci) - shown)
    # Without any bus id in common the two count different things (310 prints NA, a Duo prints one bus id for two chips).
    if not hidden or not (set(seen.pci) & shown):
        return []
    message = f"The PCI bus has {len(seen.pci)} NPUs; npu-smi does not show those at {', '.join(hidden)}."
    return [Finding("pci.hidden", WARNING, message, "Look at `dmesg` for these addresses; restart the server.")]


def _duplicate_ids(chips: Sequence[Known]) -> List[Finding]:
    ids = [known.phy_id for known in chips if known.phy_id is not None]
    doubles = sorted({phy_id for phy_id in ids if ids.count(phy_id) > 1})
    return [
        Finding("table.duplicate", ERROR, f"{ids.count(phy_id)} chips have the physical id {phy_id}.", _BY_HAND, phy_id)
        for phy_id in doubles
    ]


def _nodes(seen: Survey, chips: Sequence[Known], wanted: Wanted) -> List[Finding]:
    """Every chip that is shown has a node, and every node is a device."""
    shown = {known.phy_id for known in chips if known.phy_id is not None}
    findings = []
    for node in seen.nodes:
        if not node.is_device:
            message = f"/dev/davinci{node.phy_id} is not a device."
            remedy = "Remove it (a container engine left it there) and restart the server or the driver."
            findings.append(Finding("device.not_a_device", wanted.severity(node.phy_id), message, remedy, node.phy_id))
    for phy_id in sorted(shown - {node.phy_id for node in seen.nodes}):
        severity = ERROR if phy_id in wanted.chips else WARNING
        remedy = "Restart the driver or the server; without its node no container can be given the chip."
        findings.append(Finding("device.missing", severity, f"/dev/davinci{phy_id} is not there.", remedy, phy_id))
    return findings


def _versions(seen: Survey) -> List[Finding]:
    """Check the version files, and that driver, firmware and the running driver fit each other."""
    versions, findings = seen.versions, []
    for name, file in (("driver", versions.driver), ("firmware", versions.firmware), ("install", versions.install)):
        if name == "install" and (file.state == "ok" or INCOMPLETE in seen.run.text):
            continue  # it names no version, and what npu-smi says of it is a finding of its own
        if file.state != "ok" or not file.version:
            findings.append(_bad_file(name, file))
    running = seen.table.driver_version
    if running and versions.driver.version and _differ(running, versions.driver.version):
        message = f"Driver {running} is running, {versions.driver.version} is installed ({versions.driver.path})."
        remedy = "Restart the server to load the installed driver."
        findings.append(Finding("driver.not_loaded", WARNING, message, remedy))
    return findings + _fit(versions.driver, versions.firmware)


def _too_old(seen: Survey, wanted: Wanted) -> List[Finding]:
    """Compare the driver with the oldest one that will do. The running one counts, the installed one where none answers."""
    version = seen.table.driver_version or seen.versions.driver.version
    if not wanted.driver or not version:
        return []
    remedy = (
        f"Install driver and firmware {wanted.driver} or newer and restart the server; or set driver_check_minimum_driver, where the "
        "release notes of this CANN allow an older one."
    )
    answer = older(version, wanted.driver)
    if answer is None:
        message = f"Driver {version} cannot be compared with {wanted.driver}, which the release asks for."
        return [Finding("driver.unknown_version", WARNING, message, remedy)]
    message = f"Driver {version} is older than {wanted.driver}, which the release asks for."
    return [Finding("driver.too_old", ERROR, message, remedy)] if answer else []


def _firmware_too_old(seen: Survey, wanted: Wanted) -> List[Finding]:
    """Compare the release that the firmware was packed for; its own version is counted differently from the driver's."""
    firmware = seen.versions.firmware
    packed = firmware.values.get("package_version", "")
    if not wanted.driver or not packed or not older(packed, wanted.driver):
        return []
    message = (
        f"Firmware {firmware.version} is of release {packed}, older than {wanted.driver}, which the release asks for."
    )
    remedy = f"Install driver and firmware {wanted.driver} or newer and restart the server."
    return [Finding("firmware.too_old", ERROR, message, remedy)]


def _differ(left: str, right: str) -> bool:
    return left.lower() != right.lower() and (older(left, right) or older(right, left)) is not False


def _bad_file(name: str, file: VersionFile) -> Finding:
    if file.state == "directory":
        message = f"{file.path} is a directory: Docker makes one when it mounts a file that is not there."
        return Finding(f"{name}.version_file", WARNING, message, "Remove the empty directory and put the file back.")
    if file.state == "closed":
        message = f"{file.path} cannot be read by this user, so the {name} cannot be identified by it."
        return Finding(f"{name}.version_file", WARNING, message, "Let Ansible become root for this check.")
    what = "names no version" if file.state == "ok" else "is not there"
    message = f"{file.path} {what}, so the {name} cannot be identified by it."
    return Finding(f"{name}.version_file", WARNING, message, "Install driver and firmware with their installers.")


def _fit(driver: VersionFile, firmware: VersionFile) -> List[Finding]:
    """Compare the firmware with the ranges that the driver allows (and has to, in a pair from one release)."""
    allowed = driver.ranges("compatible_version_fw")
    version = firmware.version
    if not allowed or not version:
        return []
    answers = [within(version, low, high) for low, high in allowed]
    if any(answers) or None in answers:
        return []
    shown = ", ".join(f"{low} to {high}" for low, high in allowed)
    message = f"Firmware {version} does not fit driver {driver.version}, which takes {shown}."
    return [Finding("firmware.mismatch", ERROR, message, "Install the firmware of the driver's release and restart.")]


def _unreadable(seen: Survey) -> List[Finding]:
    if not seen.holders.unreadable:
        return []
    message = f"{seen.holders.unreadable} processes could not be looked at, so an NPU may be held unseen."
    return [Finding("processes.unreadable", WARNING, message, "Let Ansible become root for this check.")]
