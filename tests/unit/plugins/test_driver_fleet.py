# SPDX-License-Identifier: GPL-3.0-or-later
"""The findings of all hosts: worst first, the odd one out named, a silent host reported."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from tests.conftest import load_plugin

plugin = load_plugin("filter/driver_fleet.py")


def finding(code: str, severity: str, chip: int | None = None, message: str = "m") -> dict[str, Any]:
    return {"code": code, "severity": severity, "chip": chip, "message": message, "remedy": "r"}


def host(
    findings: list[dict[str, Any]] | None = None,
    driver: str = "25.0.rc1",
    firmware: str = "7.7.0",
    name: str = "910B3",
    hbm: int = 65536,
    tls: tuple[bool | None, ...] = (False, False),
    address: str = "",
) -> dict[str, Any]:
    chips = [{"name": name, "health": "OK", "hbm_total_mb": hbm, "memory_total_mb": 0} for _ in range(2)]
    versions = {"driver": {"version": driver}, "firmware": {"version": firmware}}
    npus = {"findings": findings or [], "chips": chips, "tool": {"driver_version": driver}, "versions": versions}
    ports = [{"phy_id": number, "tls_enabled": switch, "address": address or None} for number, switch in enumerate(tls)]
    return {"npus": npus, "ports": {"findings": [], "ports": ports}}


def judge(hostvars: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return list(plugin.driver_findings(list(hostvars), hostvars, "npus", "ports"))


def test_worst_first_over_all_hosts() -> None:
    first = host([finding("b", "warning"), finding("c", "info")])
    found = judge({"one": first, "two": host([finding("a", "error", 3)])})
    assert [(item["host"], item["code"]) for item in found] == [("two", "a"), ("one", "b"), ("one", "c")]


def test_the_network_of_a_chip_that_is_not_there_is_not_reported_again() -> None:
    one = host([finding("chip.missing", "error", 3)])
    one["ports"]["findings"] = [finding("hccn.refused", "error", 3), finding("link.down", "error", 2)]
    assert [(item["code"], item["chip"]) for item in judge({"one": one})] == [("chip.missing", 3), ("link.down", 2)]


def test_equal_hosts_have_nothing_to_say() -> None:
    assert judge({f"h{number}": host() for number in range(5)}) == []


@pytest.mark.parametrize(
    ("odd", "code", "severity", "words"),
    [
        (host(driver="24.1.rc3"), "fleet.driver", "warning", "driver is 24.1.rc3, on the other 63 it is 25.0.rc1"),
        (host(firmware="7.1.0"), "fleet.firmware", "warning", "firmware is 7.1.0, on the other 63 it is 7.7.0"),
        (host(name="910B2"), "fleet.chips", "warning", "910B2 65536 MB"),
        (host(hbm=32768), "fleet.chips", "warning", "32768 MB"),
        (host(tls=(True, True)), "fleet.tls", "error", "tls is on, on the other 63 it is off"),
    ],
)
def test_the_odd_one_out_is_one_finding(odd: dict[str, Any], code: str, severity: str, words: str) -> None:
    hostvars = {f"npu-{number}": host() for number in range(63)} | {"npu-odd": odd}
    found = judge(hostvars)
    assert [(item["host"], item["code"], item["severity"]) for item in found] == [("npu-odd", code, severity)]
    assert words in found[0]["message"]


def test_two_that_differ_name_each_other() -> None:
    found = judge({"one": host(), "two": host(driver="24.1.0")})
    assert [item["message"] for item in found] == ["driver is 24.1.0, on one it is 25.0.rc1."]


def test_a_host_that_differs_within_itself_is_not_compared() -> None:
    assert judge({"one": host(tls=(True, False)), "two": host()}) == []


def test_an_address_that_two_hosts_have() -> None:
    found = judge({"one": host(address="10.0.0.2", tls=(False,)), "two": host(address="10.0.0.2", tls=(False,))})
    assert [(item["host"], item["code"], item["chip"]) for item in found] == [("two", "fleet.address", 0)]
    assert "NPU 0 of one" in found[0]["message"]


@pytest.mark.parametrize("silent", [{}, {"npus": {"unreachable": True}}, {"npus": {"failed": True, "msg": "x"}}])
def test_a_host_without_an_answer_is_an_error(silent: dict[str, Any]) -> None:
    found = judge({"one": host(), "two": silent})
    assert [(item["host"], item["code"], item["severity"]) for item in found] == [("two", "host.no_answer", "error")]
    lines = plugin.driver_report(found, ["one", "two"], {"one": host(), "two": silent}, "npus")
    assert lines[4].split() == ["two", "-", "-", "-", "1", "error"]


def test_what_stops_a_host() -> None:
    found = judge({"one": host([finding("a", "error", 3, "NPU 3: Alarm."), finding("b", "warning")]), "two": host()})
    assert plugin.driver_problems(found, "one") == ["NPU 3: Alarm. Remedy: r"]
    assert plugin.driver_problems(found, "two") == []


def test_the_report_says_the_same_thing_once() -> None:
    hostvars = {name: host([finding("a", "error", 3, "NPU 3: Alarm.")]) for name in ("one", "two")}
    lines = plugin.driver_report(judge(hostvars), ["one", "two"], hostvars, "npus")
    assert lines == [
        "Driver check of 2 hosts",
        "host  driver    firmware  chips                     result",
        "----  --------  --------  ------------------------  -------",
        "one   25.0.rc1  7.7.0     2 x 910B3 65536 MB, 2 OK  1 error",
        "two   25.0.rc1  7.7.0     2 x 910B3 65536 MB, 2 OK  1 error",
        "",
        "error on one, two [a]",
        "  NPU 3: Alarm.",
        "  Remedy: r",
    ]


def test_a_wrong_input_says_so() -> None:
    with pytest.raises(AnsibleFilterError, match="list of inventory names"):
        plugin.driver_findings("npu-1", {}, "npus", "ports")
