# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that lay out the report's charts. They return numbers and labels; the templates of role run_report draw them.

Coordinates are in units of the picture (its viewBox), y downwards. `None` means that there is nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Chart = dict[str, Any]
Point = tuple[float, float]

WIDTH = 1100.0
LOSS_HEIGHT = 320.0
# Room around the loss curve: figures on its left, the last value on its right, the names of the axes.
LEFT = 64.0
RIGHT = 96.0
TOP = 16.0
BOTTOM = 44.0
MOST_POINTS = 600  # of a curve that is drawn; more would lie on top of each other
NAMES = 250.0  # of the timeline: room for names
ROW = 20.0  # height of a row
AXIS = 26.0  # room for the seconds
HOSTS_DRAWN = 12  # more hosts than this are drawn as one bar a stage
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers that enclose `low` and `high`, about `wanted` of them; at least two, also where both are equal."""
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-3):
        half = abs(low) * 0.05 or 0.5
        low, high = low - half, high + half
    raw = (high - low) / max(wanted - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _figure(value: float, step: float) -> str:
    """Return a tick's label with as many places as its distance to the next needs."""
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{places + (0 if _whole(step * 10**places) else 1)}f}"


def _whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6


def _axis(
    low: float, high: float, start: float, end: float, wanted: int
) -> tuple[list[Chart], Callable[[float], float]]:
    """Return the ticks [{at, label}] of an axis that runs from `start` to `end`, and value -> coordinate."""
    values = ticks(low, high, wanted)
    bottom, top = values[0], values[-1]

    def place(value: float) -> float:
        return round(start + (value - bottom) / (top - bottom) * (end - start), 2)

    return [{"at": place(value), "label": _figure(value, values[1] - values[0])} for value in values], place


def loss_chart(points: Sequence[Sequence[Any]], reference: float | None = None) -> Chart | None:
    """Lay out a loss curve: `points` [(iteration, loss in nats per token)]; `reference` is the loss that it should start at.

    A loss of None or NaN was not finite. Returns None without a finite loss. `lines` are SVG paths, one for each stretch without a gap;
    `broken` are the x of losses that were not finite.
    """
    known = [(int(point[0]), _finite(point[1])) for point in points]
    finite = [(iteration, loss) for iteration, loss in known if loss is not None]
    if not finite:
        return None
    shown = [loss for _, loss in finite] + ([reference] if _finite(reference) is not None else [])
    right, bottom = WIDTH - RIGHT, LOSS_HEIGHT - BOTTOM
    y_ticks, y = _axis(min(shown), max(shown), bottom, TOP, 5)
    first, last = known[0][0], known[-1][0]
    x_ticks, x = _iterations(first, last, LEFT, right)
    stretches = [[(x(iteration), y(loss)) for iteration, loss in part] for part in _stretches(known)]
    ends = [finite[0], finite[-1]] if len(finite) > 1 else finite
    return {
        "width": WIDTH,
        "height": LOSS_HEIGHT,
        "left": LEFT,
        "right": right,
        "top": TOP,
        "bottom": bottom,
        "x_ticks": x_ticks,
        "y_ticks": y_ticks,
        "lines": [_path(_thinned(part)) for part in stretches if len(part) > 1],
        "dots": [_dot(x, y, point) for point in [*ends, *(part[0] for part in _stretches(known) if len(part) == 1)]],
        "broken": [x(iteration) for iteration, loss in known if loss is None],
        "reference": {"y": y(reference), "loss": reference}
        if reference is not None and _finite(reference) is not None
        else None,
    }


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _dot(x: Callable[[float], float], y: Callable[[float], float], point: tuple[int, float]) -> Chart:
    return {"x": x(point[0]), "y": y(point[1]), "iteration": point[0], "loss": point[1]}


def _iterations(first: int, last: int, start: float, end: float) -> tuple[list[Chart], Callable[[float], float]]:
    """Return the axis of the iterations: it ends where the curve does, and has ticks at whole numbers only."""
    span = max(last - first, 1)

    def place(value: float) -> float:
        return round(start + (value - first) / span * (end - start), 2)

    inside = [value for value in ticks(first, last, 8) if first <= value <= last and _whole(value)] or [float(first)]
    return [{"at": place(value), "label": f"{value:,.0f}"} for value in inside], place


def _stretches(points: Sequence[tuple[int, float | None]]) -> list[list[tuple[int, float]]]:
    """Return the runs of finite losses."""
    parts: list[list[tuple[int, float]]] = [[]]
    for iteration, loss in points:
        if loss is None:
            parts.append([])
        else:
            parts[-1].append((iteration, loss))
    return [part for part in parts if part]


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most about MOST_POINTS points: of each piece of the curve its lowest and its highest, so that no peak is lost."""
    if len(points) <= MOST_POINTS:
        return list(points)
    size = math.ceil(2 * (len(points) - 2) / (MOST_POINTS - 2))
    kept = [points[0]]
    for at in range(1, len(points) - 1, size):
        piece = points[at : min(at + size, len(points) - 1)]
        kept += sorted({min(piece, key=lambda point: point[1]), max(piece, key=lambda point: point[1])})
    return [*kept, points[-1]]


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


# What happened when


def timeline_chart(run: Mapping[str, Any]) -> Chart | None:
    """Lay out the stages of a run (the piece that callback fleet_report keeps): a bar for each, and below it for each of a few hosts."""
    plays = [play for play in run.get("plays", []) if play["hosts"]]
    if not plays:
        return None
    begun = min(row["started"] for play in plays for row in play["hosts"].values())
    seconds = max(row["ended"] for play in plays for row in play["hosts"].values()) - begun
    scale = (WIDTH - NAMES - 76) / max(seconds, 1e-3)
    rows: list[Chart] = []
    for play in plays:
        rows.append(_bar(play["name"], "stage", list(play["hosts"].values()), begun, scale))
        if 1 < len(play["hosts"]) <= HOSTS_DRAWN:
            rows += [_bar(host, "host", [row], begun, scale) for host, row in sorted(play["hosts"].items())]
    for number, row in enumerate(rows):
        row["y"] = number * ROW
    return {
        "width": WIDTH,
        "height": len(rows) * ROW + AXIS,
        "left": NAMES,
        "bottom": len(rows) * ROW,
        "rows": rows,
        "row": ROW,
        "ticks": [{"at": round(NAMES + at * scale, 2), "label": span(at)} for at in _seconds(seconds)],
    }


def _bar(name: str, kind: str, rows: Sequence[Mapping[str, Any]], begun: float, scale: float) -> Chart:
    started, ended = min(row["started"] for row in rows), max(row["ended"] for row in rows)
    return {
        "name": name,
        "kind": kind,
        "x": round(NAMES + (started - begun) * scale, 2),
        "width": round(max((ended - started) * scale, 1.5), 2),
        "how": outcome(rows),
        "label": span(ended - started),
    }


def _seconds(whole: float) -> list[float]:
    step = next((step for step in STEPS_S if whole / step <= 8), STEPS_S[-1] * math.ceil(whole / STEPS_S[-1] / 8))
    return [float(step * number) for number in range(int(whole // step) + 1)]


def outcome(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return how hosts came out of a stage, the worst of them: failed, changed or ok."""
    if any(row["failed"] or row["unreachable"] for row in rows):
        return "failed"
    return "changed" if any(row["changed"] for row in rows) else "ok"


def span(seconds: float | None) -> str:
    """Return a span of time as a person writes it: 0.4 s, 42 s, 3 min 5 s, 2 h 10 min."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds and not _whole(seconds) else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    big, small, names = (*divmod(whole, 60), ("min", "s")) if whole < 3600 else (*divmod(whole // 60, 60), ("h", "min"))
    return f"{big} {names[0]}" + (f" {small} {names[1]}" if small else "")


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {
            "loss_chart": loss_chart,
            "timeline_chart": timeline_chart,
            "report_span": span,
            "report_outcome": outcome,
        }
