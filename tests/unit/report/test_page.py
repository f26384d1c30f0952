# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's page: complete, well-formed, escaped, self-contained, and useful however little is known."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tests.unit.report import given

PLAN = given.small_plan()
NAMES = ["npu-1", "npu-2"]


def parsed(data: dict[str, Any]) -> ET.Element:
    text: str = given.call("report_page", data)
    assert text.startswith("<!DOCTYPE html>\n")
    return ET.fromstring(text.split("\n", 1)[1])


def words(root: ET.Element) -> str:
    return " ".join("".join(root.itertext()).split())


def pictures(root: ET.Element) -> dict[str, ET.Element]:
    return {svg.attrib["class"].split()[0]: svg for svg in root.iter("svg")}


def test_everything_is_in_it() -> None:
    root = parsed(given.report(PLAN))
    assert set(pictures(root)) == {"loss", "timeline", "memory", "placement", "chain"}
    text = words(root)
    assert "Trained: 200 iterations, loss 2.3991 to 1.6326" in text
    for stage, _, _ in given.STAGES:
        assert stage in text
    for stage in given.PARENTS:
        assert given.fingerprint(stage) in text
    assert all(warning in text for warning in PLAN["warnings"])
    assert "mp_rank_00_001" in text
    assert "the model's own loss on the first batch: 2.4100" in text


def test_the_worst_finding_comes_first_and_none_is_said_plainly() -> None:
    names = [f"npu-{number}" for number in range(1, 65)]
    text = words(parsed(given.report(PLAN, drivers=given.drivers_piece(names))))
    told = [text.index(word) for word in ("could not be checked", "80E18005", "driver 24.1.rc3, the other 62")]
    assert told == sorted(told)
    assert "npu-1 … npu-63 (61)" in text
    assert "No finding" in words(parsed(given.report(PLAN, drivers=given.drivers_piece(NAMES, broken=False))))


def test_a_failed_run_says_where_and_what_to_do() -> None:
    data = given.report(PLAN, run=given.run_piece(NAMES, failed="Bring the weights"), hosts=None)
    root = parsed(data)
    text = words(root)
    assert text.split("Problems")[0].count("Failed in stage “Bring the weights”") == 1
    assert "no space left on device /data" in text
    assert "Remedy: Free space there" in text
    assert "Train the model" not in words(pictures(root)["timeline"]), "what was never reached is not in the timeline"
    assert "The receipts have not been read yet" in text


def test_each_of_several_problems_is_told_and_counted() -> None:
    run = given.run_piece(NAMES, failed="Plan the run")
    run["problems"][0].update(parts=["TP 3 does not fit.", "PP 5 does not fit."], details={"npu-1": "as it said"})
    text = words(parsed(given.report(PLAN, run=run)))
    assert "2 problems" in text.split("of the last run")[0]
    assert all(part in text for part in run["problems"][0]["parts"])
    assert "npu-1 said: as it said" in text


def test_what_an_earlier_run_left_is_told_as_such() -> None:
    data = given.report(PLAN)
    data["hosts"]["at"] = data["run"]["is"]["started"] - 100
    assert "As it was before the last run" in words(parsed(data))


def test_a_quiet_run_keeps_the_times_of_the_one_that_worked() -> None:
    quiet = given.run_piece(NAMES, changed=False)
    data = given.report(PLAN, run=quiet)
    data["worked"]["at"] -= 1000
    text = words(parsed(data))
    assert "nothing to change" in text
    assert "The last run that changed something" in text


@pytest.mark.parametrize(
    "missing", [("plan",), ("drivers",), ("hosts",), ("run", "worked"), ("plan", "drivers", "hosts", "run", "worked")]
)
def test_every_part_may_be_missing(missing: tuple[str, ...]) -> None:
    root = parsed(given.report(PLAN, **dict.fromkeys(missing)))
    assert words(root)


def test_a_run_that_trains_nothing_yet_has_no_curve() -> None:
    root = parsed(given.report(PLAN, hosts=given.hosts_piece(NAMES, "starting", [])))
    assert "loss" not in pictures(root)
    assert "No loss has been logged yet." in words(root)


def test_what_others_named_is_escaped() -> None:
    run = given.run_piece(NAMES, failed="Bring the weights")
    run["problems"][0]["what"] = "</p><script>alert(1)</script>"
    root = parsed(given.report(PLAN, run=run))
    assert list(root.iter("script")) == []
    assert "</p><script>alert(1)</script>" in words(root)
    assert "<npu-1>" in words(root) or "<npu-2>" in words(root)


@pytest.mark.parametrize("page", [given.call("report_page", given.report(PLAN)), given.call("plan_page", PLAN)])
def test_it_needs_nothing_else(page: str) -> None:
    """No address of anything to load; the namespaces of pictures inside a page need none either."""
    assert not re.search(r"https?:|url\(|@import|<script|<iframe|<img|<object|srcset", page)
    assert re.findall(r'(?:src|href)="([^"#]+)', page) == ["data:,"]


def test_the_same_data_give_the_same_page() -> None:
    assert given.call("report_page", given.report(PLAN)) == given.call("report_page", given.report(PLAN))


def test_300_hosts_stay_readable() -> None:
    large = given.large_plan(300)
    root = parsed(given.report(large))
    rows = {table.attrib.get("class"): len(list(table.iter("tr"))) for table in root.iter("table")}
    assert rows["drivers"] <= 6
    assert rows["receipts"] <= len(given.PARENTS) + 1
    assert max(rows.values()) <= 12
