# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the charts put their lines: scales, gaps, one point, none."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from tests.conftest import load_plugin
from tests.unit.report import given

charts = load_plugin("filter/report_charts.py")


def numbers(path: str) -> list[tuple[float, float]]:
    """The points of an SVG path of straight lines."""
    found = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", path)]
    return list(zip(found[::2], found[1::2]))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2.5, 5, 7.5, 10]),
        (1.63, 2.41, [1.6, 1.8, 2.0, 2.2, 2.4, 2.6]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (4, 4, [3.8, 3.9, 4.0, 4.1, 4.2]),
        (0, 0, [-0.5, -0.25, 0, 0.25, 0.5]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1, 1e5, 1e12])
def test_ticks_enclose_values_of_any_size(scale: float) -> None:
    found = charts.ticks(1.1 * scale, 7.3 * scale)
    assert found[0] <= 1.1 * scale
    assert found[-1] >= 7.3 * scale
    assert 3 <= len(found) <= 8


def test_a_curve_lies_in_its_frame_and_in_proportion() -> None:
    chart = charts.loss_chart([[1, 4.0], [2, 3.0], [3, 2.0]], 4.5)
    (line,) = chart["lines"]
    points = numbers(line)
    assert [x for x, _ in points] == pytest.approx(
        [chart["left"], (chart["left"] + chart["right"]) / 2, chart["right"]]
    )
    assert all(chart["top"] <= y <= chart["bottom"] for _, y in points)
    assert points[1][1] - points[0][1] == pytest.approx(points[2][1] - points[1][1], abs=0.02)
    labels = {tick["label"]: tick["at"] for tick in chart["y_ticks"]}
    assert labels["2"] == points[2][1], "a loss on a tick lies on its line"
    assert chart["reference"]["y"] < points[0][1], "a higher loss lies further up"
    assert [tick["label"] for tick in chart["x_ticks"]] == ["1", "2", "3"]


def test_a_reference_far_off_is_in_the_picture() -> None:
    chart = charts.loss_chart([[1, 2.0], [2, 1.9]], 11.9)
    assert chart["top"] <= chart["reference"]["y"] <= chart["bottom"]
    assert charts.loss_chart([[1, 2.0]], math.nan)["reference"] is None
    assert charts.loss_chart([[1, 2.0]])["reference"] is None


def test_one_point_is_a_dot() -> None:
    chart = charts.loss_chart([[7, 3.5]])
    assert chart["lines"] == []
    (dot, *rest) = chart["dots"]
    assert (dot["iteration"], dot["loss"]) == (7, 3.5)
    assert all(other["iteration"] == 7 for other in rest)
    assert chart["top"] < dot["y"] < chart["bottom"]
    assert [tick["label"] for tick in chart["x_ticks"]] == ["7"]


def test_losses_that_are_not_finite_are_gaps_with_a_mark() -> None:
    points: list[list[Any]] = [
        [1, 3.0],
        [2, 2.9],
        [3, math.nan],
        [4, None],
        [5, 2.8],
        [6, math.inf],
        [7, 2.7],
        [8, 2.6],
    ]
    chart = charts.loss_chart(points)
    assert [len(numbers(line)) for line in chart["lines"]] == [2, 2], "a single point between two gaps is no line"
    assert [dot["iteration"] for dot in chart["dots"]] == [1, 8, 5]
    assert len(chart["broken"]) == 3
    assert "nan" not in str(chart)


@pytest.mark.parametrize("points", [[], [[1, None]], [[1, math.nan], [2, math.inf]]])
def test_without_a_finite_loss_there_is_no_chart(points: list[list[Any]]) -> None:
    assert charts.loss_chart(points, 2.0) is None


def test_a_long_curve_is_thinned_and_keeps_its_peak() -> None:
    points = [[number, 3.0 - number / 1e5] for number in range(1, 50_001)]
    points[31_234][1] = 9.0
    chart = charts.loss_chart(points)
    drawn = numbers(chart["lines"][0])
    assert len(drawn) <= charts.MOST_POINTS + 2
    x = [x for x, _ in drawn]
    assert x == sorted(x)
    top = min(y for _, y in drawn)
    assert top < chart["bottom"] - 0.7 * (chart["bottom"] - chart["top"]), "the peak stands out"


def test_the_timeline_is_in_proportion() -> None:
    run = given.run_piece(["npu-1", "npu-2"])
    chart = charts.timeline_chart(run)
    stages = {row["name"]: row for row in chart["rows"] if row["kind"] == "stage"}
    assert list(stages) == [stage for stage, _, _ in given.STAGES]
    whole = max(row["ended"] for row in run["plays"][-1]["hosts"].values()) - given.BEGUN
    train, play = stages["Train the model"], run["plays"][7]["hosts"]
    share = max(row["ended"] - row["started"] for row in play.values()) / whole
    longest = max(row["x"] + row["width"] for row in chart["rows"]) - chart["left"]
    assert train["width"] / longest == pytest.approx(share, abs=0.002)
    assert [row["how"] for row in stages.values()] == ["ok", "ok", *["changed"] * 6, "ok"]
    assert [row["kind"] for row in chart["rows"][:3]] == ["stage", "host", "host"]
    assert all(row["x"] + row["width"] <= chart["width"] for row in chart["rows"])


def test_many_hosts_are_one_bar_a_stage() -> None:
    chart = charts.timeline_chart(
        given.run_piece([f"npu-{number}" for number in range(300)], failed="Install the sources")
    )
    assert [row["kind"] for row in chart["rows"]] == ["stage"] * 4
    assert chart["rows"][-1]["how"] == "failed"


def test_a_run_that_did_nothing_has_no_timeline() -> None:
    assert charts.timeline_chart({}) is None
    assert charts.timeline_chart({"plays": [{"name": "a", "hosts": {}}]}) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0 s"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_spans_of_time(seconds: float | None, text: str) -> None:
    assert charts.span(seconds) == text
