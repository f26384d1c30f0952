# SPDX-License-Identifier: GPL-3.0-or-later
"""The findings of all hosts: worst first, the odd one out named, a silent host reported, hosts left out on request."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from tests.conftest import load_plugin
from tests.unit.plugins.driver_hosts import finding, host

plugin = load_plugin("filter/driver_fleet.py")


def judge(hostvars: dict[str, dict[str, Any]], **others: Any) -> list[dict[str, Any]]:
    return list(plugin.driver_findings(list(hostvars), hostvars, **others))


def codes(found: list[dict[str, Any]]) -> list[tuple[str, str, int | None]]:
    return [(item["host"], item["code"], item["chip"]) for item in found]


def test_worst_first_over_all_hosts() -> None:
    first = host([finding("b", "warning"), finding("c", "info")])
    found = judge({"one": first, "two": host([finding("a", "error", 3)])})
    assert [(item["host"], item["code"]) for item in found] == [("two", "a"), ("one", "b"), ("one", "c")]


def test_equal_hosts_have_nothing_to_say() -> None:
    assert judge({f"h{number}": host() for number in range(5)}) == []


@pytest.mark.parametrize(
    ("odd", "code", "chip", "severity", "message"),
    [
        ({"driver": "24.1.rc3"}, "fleet.driver", None, "warning", "driver 24.1.rc3, the other 63: 25.0.rc1."),
        ({"firmware": "7.1.0"}, "fleet.firmware", None, "warning", "firmware 7.1.0, the other 63: 7.7.0."),
        ({"kernel": "4.19.90"}, "fleet.kernel", None, "warning", "kernel 4.19.90, the other 63: 5.10.0."),
        (
            {"nic": (9000, 25000)},
            "fleet.nic_mtu",
            None,
            "warning",
            "MTU of the host's interface 9000, the other 63: 1500.",
        ),
        (
            {"nic": (1500, 1000)},
            "fleet.nic_speed",
            None,
            "warning",
            "Mbit/s of the host's interface 1000, the other 63: 25000.",
        ),
        ({"names": ("910B2", "910B2")}, "fleet.chips", None, "warning", "chip 910B2, the other 63: 910B3."),
        ({"names": ("910B3", "910B2")}, "fleet.chips", 1, "warning", "NPU 1: chip 910B2, the other 127: 910B3."),
        ({"hbm": (32768, 65536)}, "fleet.hbm", 0, "warning", "NPU 0: HBM in MB 32768, the other 127: 65536."),
        ({"tls": (True, True)}, "fleet.tls", None, "error", "TLS on, the other 63: off."),
        ({"tls": (False, True)}, "fleet.tls", 1, "error", "NPU 1: TLS on, the other 127: off."),
        ({"clock": 301.0}, "fleet.clock", None, "warning", "clock 301 s ahead of the other 63."),
        ({"clock": -120.0}, "fleet.clock", None, "warning", "clock 120 s behind the other 63."),
    ],
)
def test_the_odd_one_out_is_one_finding(
    odd: dict[str, Any], code: str, chip: int | None, severity: str, message: str
) -> None:
    hostvars = {f"npu-{number}": host() for number in range(63)} | {"npu-odd": host(**odd)}
    [found] = judge(hostvars)
    assert (found["host"], found["code"], found["chip"], found["severity"]) == ("npu-odd", code, chip, severity)
    assert found["message"] == message
    assert found["remedy"]


def test_the_port_mtu_of_one_npu() -> None:
    hostvars = {f"npu-{number}": host(port_mtu=(4200, 4200)) for number in range(4)}
    hostvars["npu-odd"] = host(port_mtu=(4200, 1500))
    assert [item["message"] for item in judge(hostvars)] == ["NPU 1: port MTU 1500, the other 9: 4200."]


def test_two_that_differ_name_each_other() -> None:
    found = judge({"one": host(), "two": host(driver="24.1.0")})
    assert [item["message"] for item in found] == ["driver 24.1.0, one: 25.0.rc1."]


def test_three_kinds_do_not_claim_to_be_all_the_others() -> None:
    hostvars = {f"h{number}": host() for number in range(4)} | {"a": host(driver="1.0"), "b": host(driver="2.0")}
    assert [item["message"] for item in judge(hostvars)] == [
        "driver 1.0, 4 of the other 5: 25.0.rc1.",
        "driver 2.0, 4 of the other 5: 25.0.rc1.",
    ]


def test_the_fleet_knows_the_odd_switch_better_than_its_host() -> None:
    """On the host itself one is on and one is off, which its own check settles by guessing."""
    own = finding("tls.mismatch", "error", 0, "NPU 0: TLS is on, on the other 1 it is off.")
    hostvars = {"one": host([own], tls=(True, False)), "two": host(tls=(True, True)), "three": host(tls=(True, True))}
    assert codes(judge(hostvars)) == [("one", "fleet.tls", 1)]


def test_a_clock_of_two_hosts_is_compared_with_the_controllers() -> None:
    found = judge({"one": host(), "two": host(clock=-240.0)})
    assert [(item["host"], item["message"]) for item in found] == [("two", "clock 240 s behind the controller.")]
    assert judge({"one": host(), "two": host(clock=-240.0)}, clock_tolerance=600) == []


def test_a_slow_fleet_is_not_a_clock_that_is_off() -> None:
    """Sending the check takes time, the same for all: the middle moves with it."""
    assert judge({f"h{number}": host(clock=40.0 + number) for number in range(5)}) == []


def test_an_address_that_two_hosts_have() -> None:
    found = judge({"one": host(addresses=("10.0.0.2", None)), "two": host(addresses=("10.0.0.3", "10.0.0.2"))})
    assert codes(found) == [("two", "fleet.address", 1)]
    assert "NPU 0 of one" in found[0]["message"]


@pytest.mark.parametrize(
    "silent",
    [{}, {"driver_check_server": {"unreachable": True}}, {"driver_check_server": {"failed": True, "msg": "x"}}],
)
def test_a_host_without_an_answer_is_an_error(silent: dict[str, Any]) -> None:
    found = judge({"one": host(), "two": silent})
    assert [(item["host"], item["code"], item["severity"]) for item in found] == [("two", "host.no_answer", "error")]


def test_findings_of_the_reachability_check_are_among_them() -> None:
    extra = {"host": "one", **finding("reach.npu", "error", 1)}
    assert judge({"one": host([finding("b", "warning")])}, reach=[extra])[0] == extra


BROKEN = {"one": host(), "two": host([finding("a", "error", 3, "NPU 3: Alarm.")])}


def stopped(hostvars: dict[str, Any], policy: str) -> tuple[list[str], dict[str, str]]:
    found = judge(hostvars)
    hosts = list(hostvars)
    excluded = plugin.driver_excluded(found, hosts, hostvars, policy)
    return excluded, plugin.driver_stopped(found, hosts, hostvars, policy)


def test_policies() -> None:
    assert stopped(BROKEN, "warn") == ([], {})
    assert stopped(BROKEN, "fail") == ([], {"two": "NPU 3: Alarm. Remedy: r"})
    assert stopped(BROKEN, "exclude") == (["two"], {"two": "Left out of this run. NPU 3: Alarm. Remedy: r"})


def test_nobody_is_left_out_of_a_run_that_has_started() -> None:
    hostvars = {**BROKEN, "one": host(runs=("abc123",))}
    excluded, reasons = stopped(hostvars, "exclude")
    assert excluded == []
    assert reasons["two"].startswith("No host is left out of a run that has started (abc123 on one)")


def test_not_everybody_is_left_out() -> None:
    excluded, reasons = stopped({"one": host([finding("a", "error")]), "two": {}}, "exclude")
    assert excluded == []
    assert set(reasons) == {"one", "two"}


def test_an_answer_serves_again_for_the_same_questions() -> None:
    variables = host()
    variables["driver_check_server"]["asked"] = {"expected_chips": [2, 3], "timeout": 20.0}
    assert plugin.driver_looked(variables, {"expected_chips": [2, 3]})
    assert not plugin.driver_looked(variables, {"expected_chips": [0]})
    assert not plugin.driver_looked({}, {})
    assert not plugin.driver_looked({"driver_check_server": {"failed": True}}, {})


def test_a_wrong_input_says_so() -> None:
    with pytest.raises(AnsibleFilterError, match="list of inventory names"):
        plugin.driver_findings("npu-1", {})
