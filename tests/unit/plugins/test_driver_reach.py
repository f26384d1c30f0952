# SPDX-License-Identifier: GPL-3.0-or-later
"""Who tries to reach whom, and which NPU is named when some do not get through."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import load_plugin
from tests.unit.plugins.driver_hosts import host

plugin = load_plugin("filter/driver_reach.py")


def fleet(count: int) -> dict[str, dict[str, Any]]:
    return {
        f"h{number}": {**host(addresses=(f"10.0.{number}.1", f"10.0.{number}.2")), "ansible_host": f"192.0.2.{number}"}
        for number in range(count)
    }


def plan(count: int, limit: int = 10**6) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = plugin.driver_reach_plan(list(fleet(count)), fleet(count), [6000, 60000], limit)
    return made


def run(
    made: dict[str, dict[str, Any]], broken: set[tuple[str, int]], cut: set[frozenset[tuple[str, int]]] = frozenset()
) -> Any:
    """Answer the plan's pings as a network would in which these NPUs are broken and these pairs are cut."""

    def ok(one: tuple[str, int], two: tuple[str, int]) -> bool:
        return not {one, two} & broken and frozenset((one, two)) not in cut

    return {
        name: {
            "pings": [{**row, "ok": ok((name, row["npu"]), (row["host"], row["to_npu"]))} for row in part["pings"]],
            "dials": [{**row, "state": "ok", "said": ""} for row in part["dials"]],
        }
        for name, part in made.items()
    }


def named(answers: Any) -> list[tuple[str, str, int | None]]:
    return [(item["host"], item["code"], item["chip"]) for item in plugin.driver_reach_findings(answers, {})]


def test_a_small_fleet_is_tried_whole() -> None:
    made = plan(3)
    pings = [((name, row["npu"]), (row["host"], row["to_npu"])) for name, part in made.items() for row in part["pings"]]
    assert len(set(pings)) == len(pings) == 6 * 5
    assert {(row["host"], row["port"]) for row in made["h0"]["dials"]} == {
        (h, p) for h in ("h1", "h2") for p in (6000, 60000)
    }
    assert {row["address"] for row in made["h0"]["dials"]} == {"192.0.2.1", "192.0.2.2"}
    assert all(part["whole"] for part in made.values())


def test_a_large_fleet_is_sampled_evenly() -> None:
    made = plan(100, limit=1000)
    out = [len([row for row in part["pings"] if row["npu"] == npu]) for part in made.values() for npu in (0, 1)]
    into: dict[tuple[str, int], int] = {}
    for part in made.values():
        for row in part["pings"]:
            into[row["host"], row["to_npu"]] = into.get((row["host"], row["to_npu"]), 0) + 1
    assert set(out) == {5}
    assert set(into.values()) == {5}
    assert len(into) == 200
    assert not made["h0"]["whole"]


def test_every_npu_is_tried_even_in_the_largest_fleet() -> None:
    assert {len(part["pings"]) for part in plan(300, limit=1).values()} == {4}


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 24), st.integers(30, 4000), st.data())
def test_one_broken_npu_is_named_and_no_other(count: int, limit: int, data: Any) -> None:
    made = plan(count, limit)
    bad = (data.draw(st.sampled_from(list(made))), data.draw(st.integers(0, 1)))
    assert named(run(made, {bad})) == [(bad[0], "reach.npu", bad[1])]


def test_two_broken_npus_of_different_hosts_are_both_named() -> None:
    assert sorted(named(run(plan(4), {("h0", 1), ("h3", 0)}))) == [("h0", "reach.npu", 1), ("h3", "reach.npu", 0)]


def test_a_cut_pair_blames_neither_end() -> None:
    cut = {frozenset((("h0", 0), ("h2", 1)))}
    assert sorted(named(run(plan(4), set(), cut))) == [("h0", "reach.pair", 0), ("h2", "reach.pair", 1)]


def test_two_hosts_without_a_way_between_them() -> None:
    cut = {frozenset((("h0", one), ("h1", two))) for one in (0, 1) for two in (0, 1)}
    [found] = plugin.driver_reach_findings(run(plan(2), set(), cut), {})
    assert (found["host"], found["code"]) == ("h0", "reach.hosts")
    assert "its NPUs do not reach those of h1 (8 pings failed)" in found["message"]


def test_nothing_failed_nothing_said() -> None:
    assert named(run(plan(3), set())) == []


def closed(made: dict[str, dict[str, Any]], wall: str, port: int) -> Any:
    answers = run(made, set())
    for part in answers.values():
        for row in part["dials"]:
            if row["host"] == wall and row["port"] == port:
                row.update(state="timeout", said="no answer within 5 s")
    return answers


@pytest.mark.parametrize("count", [2, 5])
def test_a_host_behind_a_wall_is_named_with_its_port(count: int) -> None:
    answers = closed(plan(count), "h1", 60000)
    [found] = plugin.driver_reach_findings(answers, {"h0": {"taken": ["port 6000 is taken by process 7 (x)"]}})[1:]
    assert (found["host"], found["code"], found["severity"]) == ("h1", "reach.port", "error")
    assert "port 60000" in found["message"]
    assert "no answer within 5 s" in found["message"]


def test_a_taken_port_is_reported() -> None:
    [found] = plugin.driver_reach_findings({}, {"h0": {"taken": ["port 6000 is taken by process 7 (x)"]}})
    assert (found["host"], found["code"], found["severity"]) == ("h0", "port.taken", "warning")


def test_the_summary_counts() -> None:
    made = plan(3)
    assert plugin.driver_reach_summary(closed(made, "h1", 6000), made) == {
        "pings": 30,
        "pings_ok": 30,
        "ports": 12,
        "ports_ok": 10,
        "whole": True,
    }


def test_a_wrong_limit_says_so() -> None:
    with pytest.raises(AnsibleFilterError, match="at least 1"):
        plugin.driver_reach_plan([], {}, [], 0)
