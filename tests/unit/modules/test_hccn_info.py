# SPDX-License-Identifier: GPL-3.0-or-later
"""hccn_info on a server whose NPU network is right, and on servers with one thing wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.errors import CommandError
from ansible.module_utils.ascend_fleet.hccn import parse_hccn_conf, parse_optical, parse_port

from tests.conftest import ModuleResult, RunModule
from tests.unit.fake_server import HCCN_TOOL, FakeServer, fixture

MODULE = "hccn_info"
TOPICS = ("link", "ip", "gateway", "net_health", "netdetect", "tls")
CONF = fixture("hccn/25.0.rc1/hccn.conf")


def tls(npu: int, switch: int) -> str:
    return fixture(f"hccn/25.0.rc1/{npu}-tls.txt").replace("switch[0]", f"switch[{switch}]")


@pytest.fixture
def server(tmp_path: Path) -> FakeServer:
    server = FakeServer(tmp_path)
    server.put(HCCN_TOOL)
    server.put("/etc/hccn.conf", CONF)
    for number in (2, 3):
        server.put_device(number, number)
    return server


def answers(server: FakeServer, other: dict[tuple[int, str], str] | None = None) -> FakeServer:
    """Expect all questions about NPUs 2 and 3; `other` replaces an answer."""
    for npu in (2, 3):
        for topic in TOPICS:
            text = (other or {}).get((npu, topic), fixture(f"hccn/25.0.rc1/{npu}-{topic}.txt"))
            server.expect([HCCN_TOOL, "-i", str(npu), f"-{topic}", "-g"], text)
    return server


def codes(result: ModuleResult) -> list[tuple[str, str, int | None]]:
    return [(finding["code"], finding["severity"], finding["chip"]) for finding in result["findings"]]


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("npus", [[], [3, 2]])
def test_a_network_that_is_right(run_library: RunModule, server: FakeServer, npus: list[int], check_mode: bool) -> None:
    result = run_library(MODULE, {"npus": npus}, answers(server), check_mode=check_mode)
    server.assert_done()
    assert not result.changed
    assert "diff" not in result.data
    assert (result["status"], result["findings"]) == ("ok", [])
    assert result["tool"] == HCCN_TOOL
    assert result["hccn_conf"] == {"path": "/etc/hccn.conf", "state": "ok", "npus": [2, 3]}
    assert result["ports"][1] == {
        "phy_id": 3,
        "link": "UP",
        "address": "172.30.1.13",
        "netmask": "255.255.255.0",
        "gateway": "172.30.1.254",
        "gateway_interface": "eth3",
        "net_health": "Success",
        "netdetect": "172.30.1.254",
        "tls_enabled": False,
        "tls_preconfigured": True,
        "mtu": None,
        "optical": {},
        "saved": {
            "address": "172.30.1.13",
            "netmask": "255.255.255.0",
            "gateway": "172.30.1.254",
            "netdetect": "172.30.1.254",
            "send_arp_status": "1",
        },
    }


DAMAGED: list[tuple[dict[tuple[int, str], str], list[tuple[str, str, int | None]], str]] = [
    # A link that is down makes net health bad as well; that is said once.
    (
        {(3, "link"): "link status: DOWN", (3, "net_health"): "net health status: Fault"},
        [("link.down", "error", 3)],
        "DOWN",
    ),
    ({(3, "link"): "Cmd executed failed!"}, [("link.unknown", "warning", 3)], "Cmd executed failed!"),
    (
        {(2, "ip"): "Get ipconf failed, because no ip was preset there!"},
        [("address.missing", "error", 2)],
        "no ip was preset",
    ),
    ({(2, "ip"): ""}, [("address.missing", "error", 2)], "no answer"),
    (
        {(2, "ip"): "ipaddr:172.30.1.99\nnetmask:255.255.255.0"},
        [("address.stale", "error", 2)],
        "172.30.1.12, the device has 172.30.1.99",
    ),
    ({(2, "ip"): "ipaddr:172.30.1.12\nnetmask:255.255.0.0"}, [("address.stale", "error", 2)], "netmask 255.255.255.0"),
    ({(3, "tls"): tls(3, 1)}, [("tls.mismatch", "error", 3)], "NPU 3: TLS is on, on the other 1 it is off"),
    ({(3, "net_health"): "net health status: Unreachable"}, [("net.health", "warning", 3)], "Unreachable"),
    (
        {(3, "net_health"): "net health status: Init", (3, "netdetect"): ""},
        [("net.health", "info", 3)],
        "no address: none is set",
    ),
]


@pytest.mark.parametrize(
    ("other", "expected", "words"), DAMAGED, ids=[f"{case[1][0][0]}-{index}" for index, case in enumerate(DAMAGED)]
)
def test_one_thing_wrong_is_found_on_its_npu(
    run_library: RunModule,
    server: FakeServer,
    other: dict[tuple[int, str], str],
    expected: list[tuple[str, str, int | None]],
    words: str,
) -> None:
    result = run_library(MODULE, {}, answers(server, other))
    assert codes(result) == expected
    assert words in result["findings"][0]["message"]
    assert result["findings"][0]["remedy"]
    assert result["status"] == ("error" if expected[0][1] == "error" else "ok")


def test_two_npus_with_one_address(run_library: RunModule, server: FakeServer) -> None:
    server.put("/etc/hccn.conf", CONF.replace("172.30.1.13", "172.30.1.12"))
    result = run_library(MODULE, {}, answers(server, {(3, "ip"): "ipaddr:172.30.1.12\nnetmask:255.255.255.0"}))
    assert codes(result) == [("address.duplicate", "error", 3)]


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        (None, [("hccn.conf", "warning", None)]),
        ("directory", [("hccn.conf", "warning", None)]),
        ("# empty\n", [("address.not_saved", "warning", 2), ("address.not_saved", "warning", 3)]),
        (
            CONF.replace("_2=", "_0=").replace("_3=", "_1="),
            [("address.not_saved", "warning", 2), ("address.not_saved", "warning", 3)],
        ),
    ],
)
def test_the_file(
    run_library: RunModule, server: FakeServer, conf: str | None, expected: list[tuple[str, str, int | None]]
) -> None:
    path: Path = server.root / "etc/hccn.conf"
    path.unlink()
    if conf == "directory":
        path.mkdir()
    elif conf:
        path.write_text(conf)
    assert codes(run_library(MODULE, {}, answers(server))) == expected


def test_a_file_and_a_tool_that_are_closed_to_the_user(
    run_library: RunModule, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: str) -> bool:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(server, "is_dir", closed)
    monkeypatch.setattr(server, "is_file", closed)
    monkeypatch.setattr(server, "which", lambda _: None)
    result = run_library(MODULE, {}, answers(server))
    assert result["tool"] == HCCN_TOOL
    assert codes(result) == [("hccn.conf", "warning", None)]
    assert "cannot be read by this user" in result["findings"][0]["message"]
    assert result["hccn_conf"]["state"] == "closed"


def test_answers_as_they_are_pasted() -> None:
    """Indented, redacted, and with other devices' lines beside the own one."""
    tls = "".join(f"    dev_id:{npu}, tls switch[{npu}](0:disable, 1:enable), tls preconfigured[1]\n" for npu in (0, 1))
    texts = {"link": "    link status: UP\n", "ip": "\tipaddr:10.xx.xx.10\n\tnetmask:255.255.255.0\n", "tls": tls}
    port = parse_port(1, texts)
    assert (port.link, port.address, port.netmask, port.tls_enabled) == ("UP", "10.xx.xx.10", "255.255.255.0", True)
    assert parse_port(0, texts).tls_enabled is False


@pytest.mark.parametrize("text", ["ipaddr:\nnetmask:255.0.0.0", "ipaddr:10.0.0.1garbage", "ipaddr:none", ""])
def test_half_an_address_is_none(text: str) -> None:
    assert parse_port(0, {"ip": text}).address is None


def test_no_tool(run_library: RunModule, server: FakeServer) -> None:
    (server.root / HCCN_TOOL.lstrip("/")).unlink()
    result = run_library(MODULE, {}, server)
    assert codes(result) == [("hccn.tool_missing", "warning", None)]
    assert (result["tool"], result["ports"]) == (None, [])
    assert not result.failed


def test_a_hung_tool_is_asked_once_an_npu(run_library: RunModule, server: FakeServer) -> None:
    def hang() -> None:
        raise CommandError([HCCN_TOOL], None, "", "", "did not answer within 5 s and was ended")

    for npu in (2, 3):
        server.expect([HCCN_TOOL, "-i", str(npu), "-link", "-g"], effect=hang)
    result = run_library(MODULE, {"timeout": 5}, server)
    assert codes(result) == [("hccn.no_answer", "error", 2), ("hccn.no_answer", "error", 3)]
    assert "within 5 s" in result["findings"][0]["message"]


def test_an_npu_about_which_nothing_is_answered_is_one_finding(run_library: RunModule, server: FakeServer) -> None:
    result = run_library(MODULE, {}, answers(server, {(3, topic): "Cmd executed failed!" for topic in TOPICS}))
    assert codes(result) == [("hccn.refused", "error", 3)]
    assert "Cmd executed failed!" in result["findings"][0]["message"]


def test_optical_where_asked(run_library: RunModule, server: FakeServer) -> None:
    answers(server)
    for npu in (2, 3):
        server.expect([HCCN_TOOL, "-i", str(npu), "-optical", "-g"], fixture("hccn/25.0.rc1/optical.txt"))
    result = run_library(MODULE, {"optical": True}, server)
    assert result["ports"][0]["optical"]["Rx Power0"] == "0.9874 mW"


def test_parameters_that_make_no_sense(run_library: RunModule, server: FakeServer) -> None:
    result = run_library(MODULE, {"timeout": -1}, server)
    assert result.failed
    assert "timeout is -1" in result["msg"]


def test_parsers_pass_over_what_is_not_theirs() -> None:
    port = parse_port(5, dict.fromkeys(TOPICS, "Cmd executed failed!"))
    assert (port.link, port.address, port.tls_enabled, port.net_health) == (None, None, None, None)
    assert set(port.refused) == set(TOPICS)
    assert parse_hccn_conf("address_0=1.2.3.4\r\n  netmask_0 = 255.0.0.0 \nodd\naddress_x=1\n") == {
        0: {"address": "1.2.3.4", "netmask": "255.0.0.0"}
    }
    assert parse_optical("optical info:\npresent : not present\n") == (("present", "not present"),)


def test_parameter_types(run_library: RunModule, server: FakeServer) -> None:
    params: dict[str, Any] = {"npus": ["x"]}
    assert run_library(MODULE, params, server).failed
