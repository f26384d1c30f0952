# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that lay out the pictures of a run plan: how full each NPU gets, and which rank is where.

They return numbers and labels for the templates of role run_report. Coordinates are in units of the picture, y downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Chart = dict[str, Any]

GIB = 2**30
PARTS = (
    ("static", "parameters, gradients, optimizer"),
    ("activation", "activations"),
    ("communication", "communication buffers"),
    ("runtime", "driver and runtime"),
)
NAMES = 190.0  # room for a name
BAR = 740.0  # an NPU's whole memory
FIGURES = 170.0
ROW = 24.0  # height of a memory bar with its gap
MOST_BARS = 64  # more ranks than this share the bar of their stage
WIDTH = NAMES + BAR + FIGURES  # of both pictures


@dataclass(frozen=True)
class Size:
    """How ranks are drawn: up to `most` of them as cells `wide` x `high`, behind a name of `name`, with `lines` of text."""

    most: float
    wide: float
    high: float
    name: float
    lines: int


SIZES = (Size(64, 46, 34, 120, 2), Size(512, 31, 20, 90, 1), Size(float("inf"), 12, 12, 0, 0))
ALONE = 8  # hosts that stand below each other; more form columns


def memory_chart(plan: Mapping[str, Any]) -> Chart | None:
    """Lay out what each rank (of many: each stage and size of NPU) needs of its NPU's memory; None for a plan without ranks."""
    if not plan.get("ranks"):
        return None
    bars = _bars(plan)
    scale = BAR / max(max(need["capacity"], need["total"]) for _, need in bars)
    rows = [_row(name, need, number * ROW, scale) for number, (name, need) in enumerate(bars)]
    return {
        "width": WIDTH,
        "height": len(rows) * ROW + 4,
        "left": NAMES,
        "rows": rows,
        "parts": [what for _, what in PARTS],
    }


def _bars(plan: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    pairs = list(zip(plan["ranks"], plan["memory"]))
    if len(pairs) <= MOST_BARS:
        return [(f"rank {rank['rank']} on {rank['host']}", need) for rank, need in pairs]
    groups: dict[tuple[int, int, int], list[tuple[Any, Any]]] = {}
    for rank, need in pairs:
        groups.setdefault((rank["pp"], need["capacity"], need["total"]), []).append((rank, need))
    return [(f"stage {stage}: {len(mine)} ranks", mine[0][1]) for (stage, _, _), mine in groups.items()]


def _row(name: str, need: Mapping[str, Any], top: float, scale: float) -> Chart:
    left, parts = NAMES, []
    for number, (key, what) in enumerate(PARTS):
        width = need[key] * scale
        parts.append({"x": _f(left), "width": _f(width), "part": number, "title": f"{what}: {gib(need[key])}"})
        left += width
    end = NAMES + need["capacity"] * scale
    return {
        "name": name,
        "y": top,
        "parts": parts,
        "limit": _f(end),
        "figures_at": _f(max(left, end) + 8),
        "figures": f"{gib(need['total'])} of {gib(need['capacity'])}",
        "over": need["total"] > need["capacity"],
    }


def _f(value: float) -> float:
    return round(value, 1)


def gib(number: float) -> str:
    """Return bytes as a person reads them."""
    return f"{number / GIB:.1f} GiB"


def placement_chart(plan: Mapping[str, Any]) -> Chart | None:
    """Lay out a line of cells for each host, a cell a rank, many hosts in several columns; None for a plan without ranks.

    `lines` of text are in a cell: its rank, and its place in TP and DP; none where the ranks are too many.
    """
    if not plan.get("ranks"):
        return None
    size = next(size for size in SIZES if len(plan["ranks"]) <= size.most)
    hosts = [host["name"] for host in plan["hosts"]]
    line = (
        size.name + max(len(host["npus"]) for host in plan["hosts"]) * size.wide + 16
    )  # with the gap to the next column
    columns = 1 if len(hosts) <= ALONE else max(int((WIDTH + 16) // line), 1)
    rows = -(-len(hosts) // columns)
    places = {name: (number // rows * line, number % rows * size.high) for number, name in enumerate(hosts)}
    return {
        "width": -(-len(hosts) // rows) * line - 16,
        "height": rows * size.high + 2,
        "lines": size.lines,
        "names": [{"name": name, "x": x, "y": y + size.high / 2 + 4} for name, (x, y) in places.items() if size.name],
        "cells": [_cell(rank, *places[rank["host"]], size) for rank in plan["ranks"]],
        "stages": min(plan["pp"], 16),
    }


def _cell(rank: Mapping[str, Any], x: float, y: float, size: Size) -> Chart:
    return {
        "x": x + size.name + rank["local_rank"] * size.wide,
        "y": y + 1,
        "width": size.wide - 2,
        "height": size.high - 2,
        "stage": rank["pp"] % 8,
        "rank": rank["rank"],
        "place": f"t{rank['tp']} d{rank['dp']}",
        "title": f"rank {rank['rank']} on {rank['host']}: tp {rank['tp']}, cp {rank['cp']}, dp {rank['dp']}, pp {rank['pp']}",
    }


def plan_host_rows(plan: Mapping[str, Any]) -> list[Chart]:
    """Return the hosts of a plan as rows of a table; neighbours with the same NPUs, interface and shards share one.

    {first, last (node ranks), names, addresses, interface, npus, shards}: of a share, names and addresses are the first and the last.
    """
    rows: list[Chart] = []
    for host in plan.get("hosts", []):
        shards = plan.get("shards", {}).get(host["name"], [])
        row = {
            "first": host.get("node_rank"),
            "last": host.get("node_rank"),
            "names": [host["name"]],
            "addresses": [host["address"]],
            "interface": host.get("interface"),
            "npus": ", ".join(str(npu) for npu in host["npus"]),
            "shards": shards,
        }
        same = rows and all(rows[-1][key] == row[key] for key in ("interface", "npus", "shards"))
        if same:
            rows[-1]["last"] = row["last"]
            rows[-1]["names"].append(host["name"])
            rows[-1]["addresses"].append(host["address"])
        else:
            rows.append(row)
    return rows


def ranges(names: Iterable[str], most: int = 4) -> str:
    """Return names for a person: the few all, of many the first and the last with their number."""
    listed: Sequence[str] = list(names)
    if len(listed) <= most:
        return ", ".join(listed)
    return f"{listed[0]} … {listed[-1]} ({len(listed)})"


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {
            "memory_chart": memory_chart,
            "placement_chart": placement_chart,
            "plan_host_rows": plan_host_rows,
            "report_names": ranges,
            "report_gib": gib,
        }
