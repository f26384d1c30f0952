# SPDX-License-Identifier: GPL-3.0-or-later
"""npu_reach_info and port_listener: pings over a scripted tool, ports over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.port_listener import greeting, serve
from ansible.module_utils.ascend_fleet.reach import parse_ping

from tests.conftest import RunModule, free_ports
from tests.unit.fake_server import HCCN_TOOL, FakeServer

PING = "device 2 PING 10.0.0.9\nrecv seq=0,time=1.418000ms\nrecv seq=1,time=0.034000ms\n"
WHOLE = PING + "recv seq=2,time=0.040000ms\n3 packets transmitted, 3 received, 0.00% packet loss\n"


@pytest.mark.parametrize(
    ("text", "ok", "received", "fastest"),
    [
        (WHOLE, True, 3, 0.034),
        (PING + "3 packets transmitted, 2 received, 33.33% packet loss", True, 2, 0.034),
        (
            "device 2 PING x\nrecv seq=2,time=0.1ms\n3 packets transmitted, 1 received, 66.67% packet loss",
            False,
            1,
            0.1,
        ),
        ("3 packets transmitted, 0 received, 100.00% packet loss", False, 0, None),
        ("0 packets transmitted, 0 received", False, 0, None),
        ("Cmd executed failed!", False, 0, None),
        ("", False, 0, None),
    ],
)
def test_what_a_ping_says(text: str, ok: bool, received: int, fastest: float | None) -> None:
    found = parse_ping(text)
    assert (found.ok, found.received, found.fastest_ms) == (ok, received, fastest)


@pytest.mark.parametrize("check_mode", [False, True])
def test_pings(run_library: RunModule, tmp_path: Path, check_mode: bool) -> None:
    server = FakeServer(tmp_path)
    server.put(HCCN_TOOL)
    server.expect([HCCN_TOOL, "-i", "2", "-ping", "-g", "address", "10.0.0.9"], WHOLE)
    server.expect([HCCN_TOOL, "-i", "3", "-ping", "-g", "address", "10.0.0.8"], "Cmd executed failed!", rc=1)
    rows = [
        {"npu": 2, "host": "b", "to_npu": 0, "address": "10.0.0.9"},
        {"npu": 3, "host": "b", "to_npu": 1, "address": "10.0.0.8"},
    ]
    result = run_library("npu_reach_info", {"pings": rows}, server, check_mode=check_mode)
    server.assert_done()
    assert not result.changed
    assert [(row["to_npu"], row["ok"], row["said"][:12]) for row in result["pings"]] == [
        (0, True, "3 packets tr"),
        (1, False, "Cmd executed"),
    ]


def test_pings_without_the_tool(run_library: RunModule, tmp_path: Path) -> None:
    rows = [{"npu": 2, "host": "b", "to_npu": 0, "address": "10.0.0.9"}]
    [row] = run_library("npu_reach_info", {"pings": rows}, FakeServer(tmp_path))["pings"]
    assert (row["ok"], row["said"]) == (False, "hccn_tool is not on this host")


@pytest.fixture
def listener() -> Iterator[int]:
    """A listener of host `b` with the token `t`, in a thread; its port."""
    with socket.socket() as wire:
        wire.bind(("127.0.0.1", 0))
        wire.listen(8)
        wire.setblocking(False)
        thread = threading.Thread(target=serve, args=([wire], greeting("b", "t"), "end t", 30.0))
        thread.start()
        port = wire.getsockname()[1]
        yield port
        say(port, "end t")
        thread.join(10)
        assert not thread.is_alive()


def say(port: int, word: str) -> str:
    with socket.create_connection(("127.0.0.1", port), 5) as wire:
        wire.sendall(f"{word}\n".encode())
        return wire.makefile().readline().strip()


def dial(run_library: RunModule, tmp_path: Path, port: int, host: str = "b", token: str = "t") -> Any:
    rows = [{"host": host, "address": "127.0.0.1", "port": port}]
    params = {"dials": rows, "token": token, "timeout": 5}
    return run_library("npu_reach_info", params, FakeServer(tmp_path))["dials"][0]


def test_a_port_that_answers_as_it_should(run_library: RunModule, tmp_path: Path, listener: int) -> None:
    assert dial(run_library, tmp_path, listener)["state"] == "ok"


def test_another_host_at_the_address_is_no_success(run_library: RunModule, tmp_path: Path, listener: int) -> None:
    row = dial(run_library, tmp_path, listener, host="c")
    assert (row["state"], row["said"]) == ("stranger", "somebody else answers: 'ascend-fleet b t'")


def test_a_closed_port(run_library: RunModule, tmp_path: Path, refusing_port: int) -> None:
    assert dial(run_library, tmp_path, refusing_port)["state"] == "refused"


def test_only_the_right_word_ends_a_listener(run_library: RunModule, tmp_path: Path, listener: int) -> None:
    assert say(listener, "end something else") == "ascend-fleet b t"
    assert dial(run_library, tmp_path, listener)["state"] == "ok"


def test_a_listener_outlives_its_module_until_it_is_ended(run_library: RunModule, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    params = {"ports": [port], "name": "b", "token": "t", "seconds": 60}
    started = run_library("port_listener", params)
    assert (started.changed, started["ports"], started["taken"]) == (False, [port], [])
    try:
        assert dial(run_library, tmp_path, port)["state"] == "ok"
        again = run_library("port_listener", params, Host())
        assert again["ports"] == []
        assert f"port {port} is taken by process" in again["taken"][0]
    finally:
        ended = run_library("port_listener", {**params, "state": "absent"}, Host())
    assert ended["ports"] == [port]
    assert dial(run_library, tmp_path, port)["state"] == "refused"
    assert run_library("port_listener", {**params, "state": "absent"})["ports"] == []


def test_check_mode_starts_nothing(run_library: RunModule, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    result = run_library("port_listener", {"ports": [port], "token": "t"}, check_mode=True)
    assert (result.changed, result["ports"]) == (False, [])
    assert dial(run_library, tmp_path, port)["state"] == "refused"


@pytest.mark.parametrize(
    ("params", "words"), [({"ports": [0]}, "ports has [0]"), ({"ports": [5000], "seconds": 0}, "seconds is 0")]
)
def test_parameters_that_make_no_sense(run_library: RunModule, params: dict[str, Any], words: str) -> None:
    result = run_library("port_listener", {"token": "t", **params})
    assert result.failed
    assert words in result["msg"]
