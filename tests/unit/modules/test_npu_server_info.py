# SPDX-License-Identifier: GPL-3.0-or-later
"""npu_server_info: everything about one server in one call, right and with one thing wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet import server_facts

from tests.conftest import ModuleResult, RunModule
from tests.unit.fake_server import HCCN_TOOL, NPU_SMI, FakeServer, fixture

MODULE = "npu_server_info"
PARAMS: dict[str, Any] = {"expected_chips": [2, 3], "interface": "eth0", "work_root": "/data", "mtu": True}
TOPICS = ("link", "ip", "gateway", "net_health", "netdetect", "tls")


@pytest.fixture
def server(tmp_path: Path) -> FakeServer:
    server = FakeServer(tmp_path)
    server.put_driver()
    for number in range(4):
        server.put_device(number, number + 1)
    server.put("/proc/stat", "btime 1700000000\n")
    server.put("/proc/sys/kernel/osrelease", "5.10.0-216.aarch64\n")
    server.put("/proc/meminfo", "MemTotal:       2097152 kB\n")
    server.put("/etc/os-release", 'NAME="openEuler"\nPRETTY_NAME="openEuler 22.03 LTS"\n')
    server.put("/etc/hccn.conf", fixture("hccn/25.0.rc1/hccn.conf"))
    for name, value in (("operstate", "up"), ("mtu", "1500"), ("speed", "25000")):
        server.put(f"/sys/class/net/eth0/{name}", f"{value}\n")
    server.put("/sys/class/net/lo/mtu", "65536\n")
    return server


def answers(server: FakeServer, table: str = "npu_smi/25.0.rc1/info-4x910B3-idle.txt") -> FakeServer:
    ok = fixture("npu_smi/25.0.rc1/health-ok.txt")
    mapping = fixture("npu_smi/25.0.rc1/map-4x910B3.txt")
    server.expect_npu_smi(fixture(table), mapping, health={f"{number} 0": ok for number in range(4)})
    server.put(HCCN_TOOL)
    for npu in (2, 3):
        for topic in TOPICS:
            server.expect([HCCN_TOOL, "-i", str(npu), f"-{topic}", "-g"], fixture(f"hccn/25.0.rc1/{npu}-{topic}.txt"))
        server.expect([HCCN_TOOL, "-i", str(npu), "-mtu", "-g"], f"mtu:{4200 + npu}\n")
    return server


def codes(result: ModuleResult) -> list[tuple[str, str, int | None]]:
    return [(item["code"], item["severity"], item["chip"]) for item in result["findings"]]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_server_that_is_right(run_library: RunModule, server: FakeServer, check_mode: bool) -> None:
    result = run_library(MODULE, PARAMS, answers(server), check_mode=check_mode)
    server.assert_done()
    assert not result.changed
    assert "diff" not in result.data
    assert (result["status"], result["findings"], result["unfinished_runs"]) == ("ok", [], [])
    assert [chip["phy_id"] for chip in result["chips"]] == [0, 1, 2, 3]
    assert [port["mtu"] for port in result["network"]["ports"]] == [4202, 4203]
    known = result["server"]
    assert (known["kernel"], known["system"], known["memory_mb"]) == ("5.10.0-216.aarch64", "openEuler 22.03 LTS", 2048)
    assert known["interface"] == {"name": "eth0", "state": "up", "mtu": 1500, "speed_mbps": 25000}
    assert (known["interfaces"], known["clock_offset_s"]) == (["eth0"], None)
    assert PARAMS.items() <= result["asked"].items(), "by which the answer serves again"


def test_the_clock_is_compared_with_the_time_of_sending(
    run_library: RunModule, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_facts.time, "time", lambda: 1700000300.5)
    result = run_library(MODULE, {**PARAMS, "sent_at": 1700000000.25}, answers(server))
    assert result["server"]["clock_offset_s"] == 300.25


@pytest.mark.parametrize(
    ("state", "interface", "expected", "words"),
    [
        ("up", "eth7", "nic.missing", "eth7 is not there (there are eth0)"),
        ("down", "eth0", "nic.down", "eth0 is down"),
    ],
)
def test_the_interface(
    run_library: RunModule, server: FakeServer, state: str, interface: str, expected: str, words: str
) -> None:
    server.put("/sys/class/net/eth0/operstate", f"{state}\n")
    result = run_library(MODULE, {**PARAMS, "interface": interface}, answers(server))
    assert codes(result) == [(expected, "error", None)]
    assert words in result["findings"][0]["message"]
    assert result["status"] == "error"


def test_a_file_that_the_kernel_refuses_is_not_known(
    run_library: RunModule, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = server.read_text

    def refuse(path: str) -> str | None:
        if path.endswith("/speed"):
            raise OSError(22, "Invalid argument")
        return read(path)

    monkeypatch.setattr(server, "read_text", refuse)
    assert run_library(MODULE, PARAMS, answers(server))["server"]["interface"]["speed_mbps"] is None


def test_the_network_of_a_chip_that_is_not_there_is_not_reported_again(
    run_library: RunModule, server: FakeServer
) -> None:
    answers(server)
    for item in server.script:
        if item.argv[:3] == [HCCN_TOOL, "-i", "3"]:
            item.stdout = "Cmd executed failed!"
        if item.argv == [NPU_SMI, "info"]:
            item.stdout = "\n".join(
                line for number, line in enumerate(item.stdout.splitlines()) if number not in (15, 16, 17)
            )
    server.script = [item for item in server.script if "-c" not in item.argv or item.argv[5] != "3"]
    result = run_library(MODULE, PARAMS, server)
    assert codes(result) == [("chip.missing", "error", 3)]
    assert [item["code"] for item in result["network"]["findings"]] == ["hccn.refused"]


def test_a_run_that_was_started_and_has_no_receipt(run_library: RunModule, server: FakeServer) -> None:
    server.put("/data/run/aaa/launch-0.json")
    server.put("/data/run/aaa/receipt.json")
    server.put("/data/run/.bbb.partial/launch-1.json")
    server.put("/data/run/ccc/other")
    assert run_library(MODULE, PARAMS, answers(server))["unfinished_runs"] == [".bbb.partial"]


def test_the_number_of_chips_may_be_expected_instead_of_which(run_library: RunModule, server: FakeServer) -> None:
    answers(server)
    for number in (0, 1):  # without a list the ports of all NPUs are looked at
        for topic in (*TOPICS, "mtu"):
            server.expect([HCCN_TOOL, "-i", str(number), f"-{topic}", "-g"], "Cmd executed failed!")
    result = run_library(MODULE, {**PARAMS, "expected_chips": 8}, server)
    server.assert_done()
    assert codes(result)[0] == ("chip.count", "error", None)
    assert result["asked"]["expected_chips"] == 8


def test_parameters_that_make_no_sense(run_library: RunModule, server: FakeServer) -> None:
    result = run_library(MODULE, {**PARAMS, "timeout": 0}, server)
    assert result.failed
    assert "timeout is 0" in result["msg"]
