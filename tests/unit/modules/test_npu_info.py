# SPDX-License-Identifier: GPL-3.0-or-later
"""npu_info on a server that is right, and on servers with one thing wrong."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.errors import CommandError

from tests.conftest import ModuleResult, RunModule
from tests.unit.fake_server import NPU_SMI, FakeServer, fixture

MODULE = "npu_info"
IDLE = fixture("npu_smi/25.0.rc1/info-4x910B3-idle.txt")
BUSY_AND_SICK = fixture("npu_smi/25.0.rc1/info-4x910B3.txt")
MAPPING = fixture("npu_smi/25.0.rc1/map-4x910B3.txt")
OK = fixture("npu_smi/25.0.rc1/health-ok.txt")
ALARM = fixture("npu_smi/25.0.rc1/health-alarm.txt")
OURS, THEIRS = "a" * 64, "b" * 64
FIELDS = [
    "npu_id",
    "chip_id",
    "phy_id",
    "logic_id",
    "name",
    "generation",
    "health",
    "power_w",
    "temperature_c",
    "aicore_percent",
    "hbm_used_mb",
    "hbm_total_mb",
    "memory_used_mb",
    "memory_total_mb",
    "bus_id",
    "processes",
]
PARAMS: dict[str, Any] = {"expected_chips": [2, 3], "allowed_container": "train", "minimum_driver": "25.0.RC1"}


@pytest.fixture
def server(tmp_path: Path) -> FakeServer:
    """A server with four NPUs, of which nothing is said yet by npu-smi."""
    server = FakeServer(tmp_path)
    server.put_driver()
    for number in range(4):
        server.put_device(number, number + 1)
    server.put("/proc/stat", "cpu 1 2 3\nbtime 1700000000\n")
    return server


def healthy(server: FakeServer, **other: str) -> FakeServer:
    server.expect_npu_smi(IDLE, MAPPING, health={**{f"{number} 0": OK for number in range(4)}, **other})
    return server


def codes(result: ModuleResult) -> list[tuple[str, str, int | None]]:
    return [(finding["code"], finding["severity"], finding["chip"]) for finding in result["findings"]]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_healthy_server_says_everything_and_changes_nothing(
    run_library: RunModule, server: FakeServer, check_mode: bool
) -> None:
    result = run_library(MODULE, PARAMS, healthy(server), check_mode=check_mode)
    server.assert_done()
    assert not result.failed
    assert not result.changed
    assert "diff" not in result.data
    assert (result["status"], result["findings"], result["causes"]) == ("ok", [], [])
    assert [chip["phy_id"] for chip in result["chips"]] == [0, 1, 2, 3]
    assert list(result["chips"][2]) == FIELDS
    expected = [2, 0, 2, 2, "910B3", "A2", "OK", 93.2, 40, 0, 3391, 65536, 0, 0, "0000:81:00.0", []]
    assert list(result["chips"][2].values()) == expected
    assert result["tool"]["driver_version"] == "25.0.rc1"
    assert result["versions"]["driver"]["compatible"] == [["7.0.0", "7.7.99"]]
    assert result["device_nodes"] == [0, 1, 2, 3]


def test_findings_have_one_shape(run_library: RunModule, server: FakeServer) -> None:
    server.expect_npu_smi(BUSY_AND_SICK, MAPPING, health={"0 0": OK, "1 0": OK, "2 0": OK, "3 0": ALARM})
    result = run_library(MODULE, PARAMS, server)
    assert codes(result) == [("chip.health", "error", 3), ("chip.busy", "info", 1)]
    assert all(list(finding) == ["code", "severity", "chip", "message", "remedy"] for finding in result["findings"])
    assert "Alarm, error code 80E01801 80CD8008" in result["findings"][0]["message"]
    assert "Multi-bit error" in result["findings"][0]["message"]
    assert result["chips"][1]["processes"][0]["pid"] == 40213
    assert result["status"] == "error"


def test_a_sick_chip_that_is_not_needed_is_a_warning(run_library: RunModule, server: FakeServer) -> None:
    server.expect_npu_smi(BUSY_AND_SICK, MAPPING, health={f"{number} 0": OK for number in range(4)})
    result = run_library(MODULE, {**PARAMS, "expected_chips": [2]}, server)
    assert ("chip.health", "warning", 3) in codes(result)
    assert result["status"] == "ok"


def test_ok_in_the_table_is_not_proof(run_library: RunModule, server: FakeServer) -> None:
    result = run_library(MODULE, PARAMS, healthy(server, **{"2 0": ALARM}))
    assert codes(result) == [("chip.health", "error", 2)]
    assert "the table says OK, the chip itself says Alarm" in result["findings"][0]["message"]


def test_a_tool_that_knows_no_health_query_is_no_finding(run_library: RunModule, server: FakeServer) -> None:
    refusals = {f"{number} 0": "Command or option is not found.\n" for number in range(4)}
    assert run_library(MODULE, PARAMS, healthy(server, **refusals))["findings"] == []


def hold(server: FakeServer, container: str, npu: int = 2) -> None:
    server.put_process(
        4711, "python3 train.py --x", ["/dev/null", f"/dev/davinci{npu}", "/dev/davinci_manager"], container
    )


def test_our_own_container_may_hold_the_chips(run_library: RunModule, server: FakeServer) -> None:
    hold(server, OURS)
    server.expect(["docker", "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"], f"{OURS} train\n{THEIRS} other\n")
    result = run_library(MODULE, PARAMS, healthy(server))
    server.assert_done()
    assert result["findings"] == []
    assert result["chips"][2]["processes"] == [
        {
            "pid": 4711,
            "name": "python3",
            "memory_mb": None,
            "user": server.root.owner(),
            "command": "python3 train.py --x",
            "container": "train",
            "container_id": OURS,
            "since": "2023-11-14T22:15:00Z",
        }
    ]


@pytest.mark.parametrize(("container", "named"), [(THEIRS, "container other"), ("", "python3 train.py")])
def test_somebody_else_holds_a_needed_chip(
    run_library: RunModule, server: FakeServer, container: str, named: str
) -> None:
    hold(server, container)
    if container:
        server.expect(
            ["docker", "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"], f"{OURS} train\n{THEIRS} other\n"
        )
    result = run_library(MODULE, PARAMS, healthy(server))
    assert codes(result) == [("chip.busy", "error", 2)]
    assert "pid 4711" in result["findings"][0]["message"]
    assert named in result["findings"][0]["message"]
    assert "since 2023-11-14" in result["findings"][0]["message"]


def test_a_holder_is_named_even_when_npu_smi_refuses(run_library: RunModule, server: FakeServer) -> None:
    hold(server, THEIRS)
    server.expect(["docker", "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"], "", rc=1)
    refusal = "dcmi model initialized failed, because the device is used. ret is -8020\n"
    server.expect_npu_smi(refusal, refusal, rc=172)
    result = run_library(MODULE, PARAMS, server)
    assert codes(result) == [("npu_smi.device_used", "error", None), ("chip.busy", "error", 2)]
    assert THEIRS[:12] in result["findings"][1]["message"], "without the engine's answer the id has to do"
    assert "held from another container" in result["causes"][0]["cause"]


def test_a_node_under_another_name_is_known_by_its_number(run_library: RunModule, server: FakeServer) -> None:
    server.device_numbers["/dev/davinci7"] = server.device_numbers[
        "/dev/davinci3"
    ]  # the container's 7 is the server's 3
    hold(server, THEIRS, npu=7)
    server.expect(["docker", "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"], f"{THEIRS} other\n")
    assert codes(run_library(MODULE, PARAMS, healthy(server))) == [("chip.busy", "error", 3)]


def test_idle_memory_is_not_busy(run_library: RunModule, server: FakeServer) -> None:
    healthy(server)
    server.script[0].stdout = IDLE.replace("3391 / 65536", "4213 / 65536")
    assert run_library(MODULE, PARAMS, server)["findings"] == []


def test_processes_of_others_that_cannot_be_looked_at(run_library: RunModule, server: FakeServer) -> None:
    hold(server, "")
    server.closed = {"/proc/4711/fd"}
    assert codes(run_library(MODULE, PARAMS, healthy(server))) == [("processes.unreadable", "warning", None)]


def without_npu(text: str, npu: int) -> str:
    return re.sub(rf"\| {npu}     910B3.*\n.*\n\+=.*\n", "", text)


def test_a_dropped_card_is_named(run_library: RunModule, server: FakeServer) -> None:
    server.expect_npu_smi(without_npu(IDLE, 2), MAPPING, health={f"{number} 0": OK for number in (0, 1, 3)})
    result = run_library(MODULE, PARAMS, server)
    assert codes(result) == [("chip.missing", "error", 2)]
    assert "its node is there" in result["findings"][0]["message"]


def test_a_dropped_card_that_is_not_needed(run_library: RunModule, server: FakeServer) -> None:
    server.expect_npu_smi(without_npu(IDLE, 1), MAPPING, health={f"{number} 0": OK for number in (0, 2, 3)})
    assert codes(run_library(MODULE, PARAMS, server)) == [("chip.missing", "warning", 1)]


def test_a_chip_without_a_node_and_a_node_that_is_no_device(run_library: RunModule, server: FakeServer) -> None:
    (server.root / "dev/davinci2").unlink()
    del server.device_numbers["/dev/davinci2"], server.device_numbers["/dev/davinci3"]
    assert codes(run_library(MODULE, PARAMS, healthy(server))) == [
        ("device.missing", "error", 2),
        ("device.not_a_device", "error", 3),
    ]


def test_more_chips_on_the_bus_than_in_the_table(run_library: RunModule, server: FakeServer) -> None:
    for bus in ("0000:c1:00.0", "0000:c2:00.0", "0000:81:00.0", "0000:82:00.0", "0000:01:00.0"):
        server.put_pci(bus, "0xd802")
    server.put_pci("0000:7d:00.0", "0xa222")  # a network card of the same vendor
    result = run_library(MODULE, PARAMS, healthy(server))
    assert codes(result) == [("pci.hidden", "warning", None)]
    assert "0000:01:00.0" in result["findings"][0]["message"]


def test_a_redacted_name_is_known_by_the_bus_and_not_guessed_without(
    run_library: RunModule, server: FakeServer
) -> None:
    healthy(server)
    server.script[0].stdout = IDLE.replace("910B3", "xxx  ")
    server.script[1].stdout = ""
    server.put_pci("0000:c1:00.0", "0xd803")
    chips = run_library(MODULE, PARAMS, server)["chips"]
    assert [chip["generation"] for chip in chips] == ["A3", None, None, None]
    assert [chip["logic_id"] for chip in chips] == [None] * 4
    assert [chip["phy_id"] for chip in chips] == [0, 1, 2, 3]


@pytest.mark.parametrize("expected", [4, "4", " 4 "])
def test_as_many_chips_as_expected(run_library: RunModule, server: FakeServer, expected: Any) -> None:
    result = run_library(MODULE, {"expected_chips": expected}, healthy(server))
    assert (result["status"], result["findings"]) == ("ok", [])


@pytest.mark.parametrize(("expected", "severity"), [(8, "error"), ("5", "error"), (2, "warning")])
def test_another_number_of_chips_than_expected(
    run_library: RunModule, server: FakeServer, expected: Any, severity: str
) -> None:
    result = run_library(MODULE, {"expected_chips": expected}, healthy(server))
    assert codes(result) == [("chip.count", severity, None)]
    assert f"shows 4 chips, expected are {expected}" in result["findings"][0]["message"]


def test_expected_ids_as_ansible_passes_them_on_a_command_line(run_library: RunModule, server: FakeServer) -> None:
    result = run_library(MODULE, {"expected_chips": "3,9"}, healthy(server))
    assert codes(result) == [("chip.missing", "error", 9)]


def test_a_chip_that_only_the_mapping_knows(run_library: RunModule, server: FakeServer) -> None:
    """Without its node and off the bus; the tool itself still lists it."""
    (server.root / "dev/davinci2").unlink()
    del server.device_numbers["/dev/davinci2"]
    server.expect_npu_smi(without_npu(IDLE, 2), MAPPING, health={f"{number} 0": OK for number in (0, 1, 3)})
    result = run_library(MODULE, {}, server)
    assert codes(result) == [("chip.missing", "error", 2)]
    assert "NPU 2 is in `npu-smi info -m`" in result["findings"][0]["message"]


def test_a_chip_that_only_the_table_of_processes_knows(run_library: RunModule, server: FakeServer) -> None:
    (server.root / "dev/davinci1").unlink()
    del server.device_numbers["/dev/davinci1"]
    table = without_npu(BUSY_AND_SICK.replace("Alarm", "OK   "), 1)
    mapping = "\n".join(line for line in MAPPING.splitlines() if not re.match(r"\s*1\b", line))
    server.expect_npu_smi(table, mapping, health={f"{number} 0": OK for number in (0, 2, 3)})
    result = run_library(MODULE, {}, server)
    assert codes(result) == [("chip.missing", "error", 1)]
    assert "NPU 1 is in the table of processes but not in the table of chips" in result["findings"][0]["message"]


def test_a_dropped_chip_that_has_been_named_is_not_named_again(run_library: RunModule, server: FakeServer) -> None:
    server.expect_npu_smi(without_npu(IDLE, 2), MAPPING, health={f"{number} 0": OK for number in (0, 1, 3)})
    assert codes(run_library(MODULE, {"expected_chips": 3}, server)) == [("chip.missing", "error", 2)]


def test_a_chip_without_a_node_that_is_not_needed(run_library: RunModule, server: FakeServer) -> None:
    (server.root / "dev/davinci1").unlink()
    del server.device_numbers["/dev/davinci1"]
    assert codes(run_library(MODULE, PARAMS, healthy(server))) == [("device.missing", "warning", 1)]


def test_version_files_that_are_closed_to_the_user(
    run_library: RunModule, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's directory is its group's; that is what the check is there to say, and no reason to fail."""
    stat = server.stat

    def closed(path: str) -> Any:
        if path.startswith("/usr/local/Ascend"):
            raise PermissionError(13, "Permission denied", path)
        return stat(path)

    monkeypatch.setattr(server, "stat", closed)
    result = run_library(MODULE, PARAMS, healthy(server))
    assert codes(result) == [("driver.version_file", "warning", None), ("firmware.version_file", "warning", None)]
    assert "cannot be read by this user" in result["findings"][0]["message"]
    assert result["versions"]["driver"]["state"] == "closed"


def test_a_version_file_that_was_cut_off(run_library: RunModule, server: FakeServer) -> None:
    server.put("/usr/local/Ascend/firmware/version.info", "")
    result = run_library(MODULE, PARAMS, healthy(server))
    assert codes(result) == [("firmware.version_file", "warning", None)]
    assert "names no version" in result["findings"][0]["message"]


@pytest.mark.parametrize("name", ["npu-smi", "/usr/local/sbin/npu-smi"])
@pytest.mark.parametrize(
    ("kind", "words"), [("dir", "is a directory (Docker makes one"), ("file", "cannot be executed")]
)
def test_something_else_in_place_of_the_tool(
    run_library: RunModule, server: FakeServer, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, words: str
) -> None:
    if kind == "dir":
        (server.root / NPU_SMI.lstrip("/")).mkdir(parents=True)
    else:
        server.put(NPU_SMI)
    monkeypatch.setattr(server, "which", lambda _: None)
    result = run_library(MODULE, {**PARAMS, "npu_smi": name}, server)
    assert codes(result) == [("npu_smi.missing", "error", None)]
    assert f"{NPU_SMI} {words}" in result["findings"][0]["message"]


def test_a_usage_text_is_not_taken_for_a_damaged_table(run_library: RunModule, server: FakeServer) -> None:
    usage = "Command or option is not found.\nUsage: npu-smi <Command|-h|-v> [Options...]\n"
    server.expect_npu_smi(usage, usage)
    assert codes(run_library(MODULE, {}, server)) == [("npu_smi.not_understood", "error", None)]


def test_no_tool(run_library: RunModule, server: FakeServer) -> None:
    result = run_library(MODULE, {**PARAMS, "npu_smi": "npu-smi-x"}, server)
    assert codes(result) == [("npu_smi.missing", "error", None)]
    assert not result.failed, "a sick host is a result, so that all are reported together"


def test_a_hung_tool_is_ended_and_reported(run_library: RunModule, server: FakeServer) -> None:
    server.put(NPU_SMI)

    def hang() -> None:
        raise CommandError([NPU_SMI, "info"], None, "", "", "did not answer within 3 s and was ended")

    server.expect([NPU_SMI, "info"], effect=hang)
    server.expect([NPU_SMI, "info", "-m"], effect=hang)
    result = run_library(MODULE, {**PARAMS, "timeout": 3}, server)
    assert codes(result) == [("npu_smi.no_answer", "error", None)]
    assert "did not answer within 3 s" in result["findings"][0]["message"]


def test_a_tool_that_really_hangs_is_ended(run_library: RunModule, tmp_path: Path) -> None:
    """The same with a real process: the module comes back after the time-out, and the child of the tool is gone with it."""
    tool = tmp_path / "npu-smi"
    tool.write_text(f"#!/bin/sh\nsleep 47 & echo $! >{tmp_path}/child\nwait\n")
    tool.chmod(0o755)
    result = run_library(MODULE, {"npu_smi": str(tool), "timeout": 0.5})
    assert "npu_smi.no_answer" in [code for code, _, _ in codes(result)]
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_an_old_driver(run_library: RunModule, server: FakeServer) -> None:
    healthy(server)
    server.script[0].stdout = IDLE.replace("Version: 25.0.rc1", "Version: 24.1.rc3")
    result = run_library(MODULE, PARAMS, server)
    assert codes(result) == [("driver.too_old", "error", None), ("driver.not_loaded", "warning", None)]
    assert "Driver 24.1.rc3 is older than 25.0.RC1" in result["findings"][0]["message"]


def test_firmware_outside_of_the_driver_s_range(run_library: RunModule, server: FakeServer) -> None:
    server.put("/usr/local/Ascend/firmware/version.info", "Version=6.4.12.1.241\n")
    result = run_library(MODULE, PARAMS, healthy(server))
    assert codes(result) == [("firmware.mismatch", "error", None)]
    assert "7.0.0 to 7.7.99" in result["findings"][0]["message"]


def test_firmware_of_an_older_release(run_library: RunModule, server: FakeServer) -> None:
    server.put("/usr/local/Ascend/firmware/version.info", "Version=7.5.0.5.220\npackage_version=24.1.0\n")
    result = run_library(MODULE, PARAMS, healthy(server))
    assert codes(result) == [("firmware.too_old", "error", None)]
    assert "is of release 24.1.0, older than 25.0.RC1" in result["findings"][0]["message"]


@pytest.mark.parametrize(
    ("state", "words"),
    [("directory", "Docker makes"), ("absent", "is not there"), ("unfinished", "Driver_Install_Status")],
)
def test_a_driver_that_is_not_completely_installed(
    run_library: RunModule, server: FakeServer, state: str, words: str
) -> None:
    info = server.root / "etc/ascend_install.info"
    info.unlink()
    if state == "directory":
        info.mkdir()
    elif state == "unfinished":
        info.write_text("UserName=HwHiAiUser\n")
    healthy(server)
    server.script[0].stdout = (
        IDLE + "[WARNING]The driver package may not be completely installed, which may cause function abnormal.\n"
    )
    result = run_library(MODULE, PARAMS, server)
    assert codes(result) == [("driver.incomplete", "warning", None)]
    assert words in result["findings"][0]["message"]


def test_a3_ids(run_library: RunModule, server: FakeServer) -> None:
    places = {f"{npu} {chip}": OK for npu in (0, 1) for chip in (0, 1)}
    server.expect_npu_smi(
        fixture("npu_smi/25.2.0/info-2xA3.txt"), fixture("npu_smi/25.2.0/map-2xA3.txt"), health=places
    )
    result = run_library(MODULE, {"expected_chips": [2, 3]}, server)
    shown = [
        (chip["npu_id"], chip["chip_id"], chip["phy_id"], chip["logic_id"], chip["generation"])
        for chip in result["chips"]
    ]
    assert shown == [(0, 0, 0, 0, "A3"), (0, 1, 1, 1, "A3"), (1, 0, 2, 2, "A3"), (1, 1, 3, 3, "A3")]
    assert ("chip.health", "warning", 1) in codes(result)
    assert ("chip.busy", "error", 3) in codes(result)


@pytest.mark.parametrize(
    ("name", "generation"),
    [
        ("910B", "910"),
        ("910ProA", "910"),
        ("910B4-1", "A2"),
        ("Ascend910_9392", "A3"),
        ("310P3", "310P"),
        ("310B4", "310B"),
        ("new", None),
    ],
)
def test_generations_by_name(run_library: RunModule, server: FakeServer, name: str, generation: str | None) -> None:
    healthy(server)
    server.script[0].stdout = IDLE.replace("910B3", name)
    server.script[1].stdout = MAPPING.replace("Ascend 910B3", name)
    assert {chip["generation"] for chip in run_library(MODULE, {}, server)["chips"]} == {generation}


@pytest.mark.parametrize(
    ("params", "value"),
    [
        *[({"timeout": seconds}, f"timeout is {seconds:g}") for seconds in (0, -1.5, math.inf, math.nan, 1e30)],
        *[
            ({"expected_chips": odd}, repr(odd))
            for odd in ([-1], [True], ["x"], [[1]], 0, -3, True, "a", "1,", 2.5, {"a": 1})
        ],
    ],
)
def test_parameters_that_make_no_sense(
    run_library: RunModule, server: FakeServer, params: dict[str, Any], value: str
) -> None:
    result = run_library(MODULE, params, server)
    assert result.failed
    assert value in result["msg"]


HUNG = CommandError(["npu-smi"], None, "", "", "did not answer within 2 s and was ended")


def fails(server: FakeServer, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    """Let every call with `option` hang."""
    run = server.run

    def hanging(argv: Any, **options: Any) -> Any:
        if option in list(argv):
            raise HUNG
        return run(argv, **options)

    monkeypatch.setattr(server, "run", hanging)


def test_a_health_query_that_hangs_is_never_ok(
    run_library: RunModule, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(server, monkeypatch, "health")
    result = run_library(MODULE, PARAMS, healthy(server))
    assert [code for code in codes(result) if code[1] == "error"] == [
        ("chip.no_answer", "error", 2),
        ("chip.no_answer", "error", 3),
    ]
    assert ("chip.no_answer", "warning", 0) in codes(result)  # a chip that the run does not use
    assert result["status"] == "error"
    assert "NPU 2 gives no health, so the OK of the table is not confirmed" in result["findings"][0]["message"]


@pytest.mark.parametrize("answer", ["Failed to query health\n", ""])
def test_a_health_query_that_fails_is_said(run_library: RunModule, server: FakeServer, answer: str) -> None:
    result = run_library(MODULE, PARAMS, healthy(server, **{"2 0": answer}))
    assert codes(result) == [("chip.no_answer", "warning", 2)]
    assert repr(answer.strip()) in result["findings"][0]["message"]


def test_a_mapping_that_hangs_is_said(
    run_library: RunModule, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(server, monkeypatch, "-m")
    assert ("npu_smi.no_mapping", "warning", None) in codes(run_library(MODULE, PARAMS, healthy(server)))
