# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's hccn_tool, run as a program."""

from __future__ import annotations

import os

import pytest

from tests.unit.lab.conftest import MANAGERS, Server

needs_raw_sockets = pytest.mark.skipif(os.geteuid() != 0, reason="an ICMP echo needs a raw socket, hence root")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("-ip", "ipaddr:127.0.0.11\nnetmask:255.255.255.0\n"),
        ("-link", "link status: UP\n"),
        ("-netdetect", "netdetect address: 127.0.0.1\n"),
        ("-gateway", "default gateway:127.0.0.1, Iface:eth1\n"),
        (
            "-tls",
            "dev_id:1, tls switch[0](0:disable, 1:enable), tls preconfigured[1](0:non-preset, 1:preset), "
            "tls alarm time threshold[60]days\n",
        ),
    ],
)
def test_questions_are_answered_from_the_servers_files(server: Server, question: str, answer: str) -> None:
    assert server.run("hccn_tool", "-i", "1", question, "-g") == (answer, 0)


def test_an_npu_without_address_answers_with_nothing(server: Server) -> None:
    assert server.run("hccn_tool", "-i", "3", "-ip", "-g") == ("", 0)


def test_faults_differ_from_the_file(server: Server) -> None:
    server.faults(npus={"1": {"address": "127.0.0.99", "link": "DOWN", "tls": 1}})
    assert server.run("hccn_tool", "-i", "1", "-ip", "-g")[0].splitlines()[0] == "ipaddr:127.0.0.99"
    assert server.run("hccn_tool", "-i", "1", "-link", "-g")[0] == "link status: DOWN\n"
    assert "tls switch[1]" in server.run("hccn_tool", "-i", "1", "-tls", "-g")[0]
    assert server.run("hccn_tool", "-i", "1", "-net_health", "-g")[0] == "net health status: Fault\n"


def test_health_without_an_address_is_not_begun(server: Server) -> None:
    assert server.run("hccn_tool", "-i", "3", "-net_health", "-g")[0] == "net health status: Init\n"


@needs_raw_sockets
def test_health_is_the_answer_of_the_detection_address(server: Server) -> None:
    assert server.run("hccn_tool", "-i", "0", "-net_health", "-g")[0] == "net health status: Success\n"


@needs_raw_sockets
def test_a_ping_reports_each_packet_and_the_loss(server: Server) -> None:
    lines = server.run("hccn_tool", "-i", "0", "-ping", "-g", "address", "127.0.0.12")[0].splitlines()
    assert lines[0] == "device 0 PING 127.0.0.12"
    assert [line.split("=")[1].split(",")[0] for line in lines[1:4]] == ["0", "1", "2"]
    assert lines[4] == "3 packets transmitted, 3 received, 0.00% packet loss"


@needs_raw_sockets
def test_a_ping_from_an_address_that_is_not_here_loses_everything(server: Server) -> None:
    server.faults(npus={"0": {"address": "192.0.2.77"}})
    lines = server.run("hccn_tool", "-i", "0", "-ping", "-g", "address", "127.0.0.12")[0].splitlines()
    assert lines[1:] == ["3 packets transmitted, 0 received, 100.00% packet loss"]


def test_in_a_container_ids_are_logical(server: Server) -> None:
    server.process(50, namespace="mnt:[1]", sees=(*MANAGERS, "davinci2"))
    assert server.run("hccn_tool", "-i", "0", "-ip", "-g", caller=50)[0].splitlines()[0] == "ipaddr:127.0.0.12"
    assert server.run("hccn_tool", "-i", "2", "-ip", "-g", caller=50) == ("Cmd executed failed!\n", 1)


@pytest.mark.parametrize(
    "arguments", [(), ("-i", "0", "-link"), ("-i", "0", "-weather", "-g"), ("-i", "9", "-link", "-g")]
)
def test_wrong_questions_fail(server: Server, arguments: tuple[str, ...]) -> None:
    assert server.run("hccn_tool", *arguments) == ("Cmd executed failed!\n", 1)
