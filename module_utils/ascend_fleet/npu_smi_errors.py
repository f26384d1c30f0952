# SPDX-License-Identifier: GPL-3.0-or-later
"""What npu-smi says when it cannot show chips. The same text has several causes, so what else is visible on the host decides
their order: devices, group membership, containers. Nothing is diagnosed from the text alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Tuple

from .driver_findings import ERROR, Cause, Finding
from .errors import last_lines

INCOMPLETE = "driver package may not be completely installed"


@dataclass(frozen=True)
class Evidence:
    """What the host shows besides the tool's text. `in_group`: the caller may use NPUs as a member of HwHiAiUser."""

    is_root: bool = True
    in_group: bool = False
    nodes: int = 0
    pci_devices: int = 0
    holders: Tuple[str, ...] = ()
    driver_installed: bool = False
    in_container: bool = False


@dataclass(frozen=True)
class Answer:
    """A recognised text: its kind and the code or file that it names."""

    kind: str
    detail: str = ""


Weighted = Tuple[int, Cause]

_PATTERNS: Tuple[Tuple[str, re.Pattern[str]], ...] = (
    ("library_missing", re.compile(r"error while loading shared libraries: ([^:\s]+)")),
    ("device_used", re.compile(r"(?:the device is used\. )?ret is (-8020)|the device is used")),
    ("init_failed", re.compile(r"dcmi (?:model|module) initialized? failed\.?(?: ret is (-[0-9]{1,6}))?")),
    ("init_failed", re.compile(r"(DrvMngGetConsoleLogLevel) failed")),
    ("board_type", re.compile(r"npu get board type failed(?:\. ret is (-[0-9]{1,6}))?")),
    ("no_card", re.compile(r"(There is no NPU card)")),
    ("query_failed", re.compile(r"(Failed to (?:get card number|query card[a-z ]*))")),
    ("not_understood", re.compile(r"(Command or option is not found|Error parameter of -\w)")),
)


def recognise(text: str) -> Optional[Answer]:
    """Return what kind of refusal a text is; None for a text that is none of the known ones."""
    for kind, pattern in _PATTERNS:
        found = pattern.search(text)
        if found:
            return Answer(kind, next((group for group in found.groups() if group), ""))
    return None


def explain(text: str, rc: Optional[int], evidence: Evidence) -> Tuple[Finding, List[Cause]]:
    """Turn an answer without chips into a finding that names the likely causes, the likeliest first."""
    answer = recognise(text)
    kind = answer.kind if answer else "no_chips"
    weighted = sorted(_CAUSES[kind](evidence, answer.detail if answer else ""), key=lambda item: -item[0])
    causes = [cause for weight, cause in weighted if weight > 0]  # the others are ruled out by what was seen
    said = _said(text, answer) or f"nothing (status {rc})"
    listed = " ".join(f"({number}) {item.cause}: {item.tell}" for number, item in enumerate(causes, start=1))
    message = f"npu-smi shows no chip, it says {said!r}. Likely causes in order: {listed}"
    return Finding(f"npu_smi.{kind}", ERROR, message, causes[0].remedy), causes


def _said(text: str, answer: Optional[Answer]) -> str:
    """Return the end of a text, from the line that was recognised where that is not in it: a usage text may follow."""
    said = last_lines(text, 4)
    if answer is None or not answer.detail or answer.detail in said:
        return said
    return next(line for line in text.splitlines() if answer.detail in line).strip()


def _used(evidence: Evidence, _: str) -> List[Weighted]:
    who = ", ".join(evidence.holders)
    held = Cause(
        "an NPU of this host is held from another container",
        f"open now: {who}"
        if who
        else "no process has a node open now, so it would have to be a container that just ended",
        "Stop that container or process, or give this job other NPUs; without --privileged an NPU serves one container.",
    )
    fault = Cause(
        "the driver or device is in a fault state",
        "no holder is visible, and `dmesg` shows no `Conflict open udevid`",
        "Collect `msnpureport` and the kernel log, then restart the server.",
    )
    return [(9 if who else 5, held), (6 if not who else 2, fault)]


def _init(evidence: Evidence, code: str) -> List[Weighted]:
    found = [*_not_there(evidence), *_not_allowed(evidence)]
    found += [(weight - 3, cause) for weight, cause in _used(evidence, code)]
    mount = Cause(
        "this is a container without all of the driver's files",
        "/usr/local/dcmi or the driver's directory is not mounted",
        "Mount /usr/local/Ascend/driver, /usr/local/dcmi and npu-smi from the server.",
    )
    return [*found, (7 if evidence.in_container else 0, mount)]


def _not_there(evidence: Evidence) -> List[Weighted]:
    """Tell a machine without NPUs from one whose driver is not loaded."""
    none = Cause(
        "this machine has no NPU",
        f"{evidence.pci_devices} NPUs on the PCI bus, {evidence.nodes} nodes /dev/davinci*",
        "Take the host out of the inventory, or look for the card: `lspci -d 19e5:`.",
    )
    unloaded = Cause(
        "the driver is not installed or not loaded",
        f"{evidence.pci_devices} NPUs on the PCI bus but {evidence.nodes} nodes /dev/davinci*; "
        + ("its version file is there" if evidence.driver_installed else "its version file is not there"),
        "Install driver and firmware for this NPU and restart the server if the installer asks for it.",
    )
    if evidence.nodes:
        return [(1, unloaded), (0, none)]
    on_bus = evidence.pci_devices > 0 or evidence.driver_installed
    return [(10 if on_bus else 8, unloaded), (2 if on_bus else 9, none)]


def _not_allowed(evidence: Evidence) -> List[Weighted]:
    outside = not evidence.is_root and not evidence.in_group
    cause = Cause(
        "the user is not in the group HwHiAiUser",
        "the nodes belong to root:HwHiAiUser with mode 0660 and this user is not a member",
        "Run `usermod -aG HwHiAiUser <user>` and log in again, or let Ansible become root.",
    )
    return [(11 if outside and evidence.nodes else 0, cause)]


def _board(evidence: Evidence, _: str) -> List[Weighted]:
    runtime = Cause(
        "the container was made by the Ascend container runtime, where the board is not shown",
        "device_count is right in torch although npu-smi fails",
        "Check the NPUs on the server instead of in the container.",
    )
    firmware = Cause(
        "driver and firmware do not fit each other",
        "compatible_version_fw in the driver's version.info against the firmware's version",
        "Install the driver and firmware of one release and restart the server.",
    )
    return [(9 if evidence.in_container else 4, runtime), (6, firmware), *_not_there(evidence)]


def _library(evidence: Evidence, name: str) -> List[Weighted]:
    path = Cause(
        f"the loader does not know the driver's libraries ({name})",
        "the driver's version file is there, so the libraries are too",
        "Add /usr/local/Ascend/driver/lib64/{driver,common} to /etc/ld.so.conf.d and run ldconfig, or reinstall the driver.",
    )
    absent = Cause(
        f"the driver is not installed ({name} comes with it)",
        "only the tool is there, without /usr/local/Ascend/driver/version.info",
        "Install the driver, or in a container mount /usr/local/Ascend/driver from the server.",
    )
    return [(9 if evidence.driver_installed else 3, path), (3 if evidence.driver_installed else 9, absent)]


def _no_card(evidence: Evidence, _: str) -> List[Weighted]:
    dropped = Cause(
        "all cards dropped off the bus, or were never there",
        f"{evidence.pci_devices} NPUs on the PCI bus, {evidence.nodes} nodes /dev/davinci*",
        "Look at `dmesg` and `lspci -d 19e5:`; power the server off and on (a restart may not bring a card back).",
    )
    return [(5, dropped), *_not_there(evidence)]


def _query(evidence: Evidence, _: str) -> List[Weighted]:
    busy = Cause(
        "the driver is still starting or a device is in a fault state",
        "it goes away within a minute after a restart, or it stays and `dmesg` shows device errors",
        "Try again in a minute; if it stays, collect `msnpureport` and restart the server.",
    )
    return [(8 if evidence.nodes else 3, busy), *_not_there(evidence), *_not_allowed(evidence)]


def _usage(_: Evidence, __: str) -> List[Weighted]:
    other = Cause(
        "the program is not npu-smi, or a version with other options",
        "`npu-smi -h` lists what it understands",
        "Set driver_check_npu_smi to the driver's own tool, usually /usr/local/sbin/npu-smi or /usr/local/bin/npu-smi.",
    )
    return [(5, other)]


def _silent(evidence: Evidence, _: str) -> List[Weighted]:
    unknown = Cause(
        "npu-smi answers in a form that is not known here",
        "its text above holds no table",
        "Run `npu-smi info` on the host by hand and report its output.",
    )
    return [(6 if evidence.nodes else 1, unknown), *_not_there(evidence), *_not_allowed(evidence)]


_CAUSES: Dict[str, Callable[[Evidence, str], List[Weighted]]] = {
    "device_used": _used,
    "init_failed": _init,
    "board_type": _board,
    "library_missing": _library,
    "no_card": _no_card,
    "query_failed": _query,
    "not_understood": _usage,
    "no_chips": _silent,
}
