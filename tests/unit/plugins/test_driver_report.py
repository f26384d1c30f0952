# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver check's report: data for programs, lines for people."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from tests.conftest import load_plugin
from tests.unit.plugins.driver_hosts import finding, host

fleet = load_plugin("filter/driver_fleet.py")
plugin = load_plugin("filter/driver_report.py")


def data(
    hostvars: dict[str, Any], excluded: tuple[str, ...] = (), reach: dict[str, Any] | None = None
) -> dict[str, Any]:
    found = fleet.driver_findings(list(hostvars), hostvars)
    report: dict[str, Any] = plugin.driver_data(found, list(hostvars), hostvars, "fail", excluded, reach or {})
    return report


def test_the_data_is_json_and_complete() -> None:
    hostvars = {"one": host([finding("a", "error", 1)], addresses=("10.0.0.1", "10.0.0.2")), "two": {}}
    report = json.loads(json.dumps(data(hostvars, ("two",))))
    assert report["counts"] == {"error": 2, "warning": 0, "info": 0}
    assert (report["policy"], report["excluded"], report["reach"]) == ("fail", ["two"], {})
    one, two = report["hosts"]
    assert (one["name"], one["driver"], one["kernel"], one["excluded"]) == ("one", "25.0.rc1", "5.10.0", False)
    assert one["chips"][1]["network"]["address"] == "10.0.0.2"
    assert two == {"name": "two", "answered": False, "counts": {"error": 1, "warning": 0, "info": 0}, "excluded": True}
    assert [item["host"] for item in report["findings"]] == ["one", "two"]


def test_the_data_say_when_the_hosts_were_asked() -> None:
    first, second = host(), host()
    for variables, at in ((first, 1000.5), (second, 1002.0)):
        variables["driver_check_server"]["asked"] = {"sent_at": at}
    assert data({"one": first, "two": second, "three": {}})["looked_at"] == 1002.0
    assert data({"one": host(), "two": {}})["looked_at"] is None


def test_groups_for_the_page_begin_with_the_worst_and_the_odd() -> None:
    hostvars = {f"h{number}": host() for number in range(5)}
    hostvars |= {"old": host(driver="24.1.rc3"), "sick": host([finding("a", "error", 3)]), "gone": {}}
    groups = plugin.driver_groups(data(hostvars))
    assert [group["hosts"] for group in groups] == [["sick"], ["gone"], ["old"], [f"h{number}" for number in range(5)]]
    assert [group["worst"] for group in groups] == ["error", "error", "warning", ""]
    assert groups[2]["cells"]["driver"] == "24.1.rc3"


def test_one_host_is_one_host() -> None:
    assert plugin.driver_lines(data({"one": host([])}))[0].startswith("Driver check of 1 host: ")


def test_the_report_says_the_same_thing_once() -> None:
    lines = plugin.driver_lines(
        data({name: host([finding("a", "error", 3, "NPU 3: Alarm.")]) for name in ("one", "two")})
    )
    assert lines == [
        "Driver check of 2 hosts: 2 errors",
        "host      driver    firmware  chips                     kernel  result",
        "--------  --------  --------  ------------------------  ------  -------",
        "one, two  25.0.rc1  7.7.0     2 x 910B3 65536 MB, 2 OK  5.10.0  1 error",
        "",
        "error one, two: NPU 3: Alarm. [a]",
        "  Remedy: r",
    ]


def test_a_fleet_is_one_row_and_the_odd_one() -> None:
    hostvars = {f"npu-{number}": host() for number in range(1, 64)} | {"npu-17x": host(driver="24.1.rc3")}
    lines = plugin.driver_lines(data(hostvars))
    assert [line.split("  ")[0] for line in lines[3:5]] == ["npu-1, npu-2, npu-3, npu-4, npu-5 and 58 more", "npu-17x"]
    assert "warning npu-17x: driver 24.1.rc3, the other 63: 25.0.rc1. [fleet.driver]" in lines


def test_who_did_not_answer_and_who_is_left_out() -> None:
    reach = {"pings": 6, "pings_ok": 5, "ports": 4, "ports_ok": 4, "whole": False}
    lines = plugin.driver_lines(data({"one": host(), "two": {}}, ("two",), reach))
    assert lines[4].split() == ["two", "-", "-", "-", "-", "1", "error,", "left", "out"]
    assert "reached: 5 of 6 NPU pairs, 4 of 4 ports, a sample" in lines
    assert lines[-1] == "left out of this run: two"


def test_a_wrong_input_says_so() -> None:
    with pytest.raises(AnsibleFilterError, match="list of inventory names"):
        plugin.driver_data([], "npu-1", {}, "fail", [], {})
