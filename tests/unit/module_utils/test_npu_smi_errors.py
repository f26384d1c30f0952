# SPDX-License-Identifier: GPL-3.0-or-later
"""The same refusal has several causes; what else the host shows decides which one is named first."""

from __future__ import annotations

import pytest
from ansible.module_utils.ascend_fleet.npu_smi_errors import Evidence, explain, recognise

INIT = "DrvMngGetConsoleLogLevel failed. (ret=4)\ndcmi module initialize failed. ret is -8005\n"
USED = "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\ndcmi model initialized failed, because the device is used. ret is -8020\n"
LIBRARY = "npu-smi: error while loading shared libraries: libdrvdsmi_host.so: cannot open shared object file\n"

SERVER = Evidence(nodes=8, pci_devices=8, driver_installed=True)


@pytest.mark.parametrize(
    ("text", "kind", "detail"),
    [
        (INIT, "init_failed", "-8005"),
        (USED, "device_used", "-8020"),
        ("dcmi model initialized failed. ret is -8020", "device_used", "-8020"),
        ("npu get board type failed. ret is -9005", "board_type", "-9005"),
        (LIBRARY, "library_missing", "libdrvdsmi_host.so"),
        ("There is no NPU card on this server.", "no_card", "There is no NPU card"),
        ("Failed to get card number.", "query_failed", "Failed to get card number"),
        ("Command or option is not found.\nUsage: x", "not_understood", "Command or option is not found"),
    ],
)
def test_known_texts(text: str, kind: str, detail: str) -> None:
    answer = recognise(f"noise\n{text}\nmore")
    assert answer is not None
    assert (answer.kind, answer.detail) == (kind, detail)


def test_an_unknown_text_is_not_given_a_name() -> None:
    assert recognise("Segmentation fault") is None


@pytest.mark.parametrize(
    ("evidence", "first"),
    [
        (Evidence(is_root=False, nodes=8, pci_devices=8, driver_installed=True), "HwHiAiUser"),
        (Evidence(is_root=False, in_group=True, nodes=8, pci_devices=8, driver_installed=True), "fault state"),
        (Evidence(), "no NPU"),
        (Evidence(pci_devices=8), "not installed or not loaded"),
        (Evidence(driver_installed=True), "not installed or not loaded"),
        (Evidence(nodes=8, pci_devices=8, holders=("pid 7 (container other)",)), "held from another container"),
        (Evidence(nodes=2, in_container=True), "without all of the driver's files"),
    ],
)
def test_the_order_of_causes_of_8005(evidence: Evidence, first: str) -> None:
    finding, causes = explain(INIT, 187, evidence)
    assert first in causes[0].cause
    assert finding.remedy == causes[0].remedy
    assert (finding.code, finding.severity, finding.chip) == ("npu_smi.init_failed", "error", None)
    assert len(causes) > 1, "the text has several causes, and what was not ruled out is still named"


def test_what_is_ruled_out_is_not_named() -> None:
    _, causes = explain(INIT, 187, SERVER)
    named = " ".join(cause.cause for cause in causes)
    assert "HwHiAiUser" not in named, "root may open the nodes"
    assert "no NPU" not in named, "the nodes are there"


def test_a_usage_text_does_not_hide_what_was_said() -> None:
    usage = "Command or option is not found.\nUsage: npu-smi <Command|-h|-v> [Options...]\n\n" + "\tinfo  x\n" * 5
    finding, _ = explain(usage, 0, SERVER)
    assert "it says 'Command or option is not found.'" in finding.message


def test_a_used_device_names_its_holder() -> None:
    holder = "pid 41 (container other, user root, 'python3 x.py')"
    finding, causes = explain(USED, 172, Evidence(nodes=4, holders=(holder,)))
    assert holder in causes[0].tell
    assert holder in finding.message
    _, causes = explain(USED, 172, Evidence(nodes=4))
    assert "fault state" in causes[0].cause


def test_a_missing_library() -> None:
    _, causes = explain(LIBRARY, 127, Evidence(driver_installed=True))
    assert "ldconfig" in causes[0].remedy
    _, causes = explain(LIBRARY, 127, Evidence())
    assert "not installed" in causes[0].cause


@pytest.mark.parametrize("text", ["", "   \n", "Segmentation fault", "+----+\n| odd |\n"])
def test_zero_chips_is_never_silent(text: str) -> None:
    finding, causes = explain(text, 0, Evidence(nodes=4))
    assert (finding.code, finding.severity) == ("npu_smi.no_chips", "error")
    assert causes
    assert all(cause.tell and cause.remedy for cause in causes)
    assert text.strip()[:10] in finding.message.replace("\\n", "\n")


@pytest.mark.parametrize(
    "text", [INIT, USED, LIBRARY, "npu get board type failed", "There is no NPU card", "Failed to get card number", "x"]
)
@pytest.mark.parametrize("evidence", [SERVER, Evidence(), Evidence(is_root=False), Evidence(in_container=True)])
def test_every_refusal_has_a_first_cause(text: str, evidence: Evidence) -> None:
    finding, causes = explain(text, 1, evidence)
    assert causes[0].remedy == finding.remedy != ""
