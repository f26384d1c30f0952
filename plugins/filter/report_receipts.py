# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that make rows of what the hosts hold: receipts of equal hosts together, the odd one out first, and the chain they form."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# On the controller module_utils is a directory like any other.
sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from ascend_fleet.receipts_on_host import in_pipeline_order

Row = dict[str, Any]
Receipt = Mapping[str, Any]

# Of the chain's picture.
NODE_WIDTH = 132.0
NODE_HIGH = 44.0
GAP_X = 56.0
GAP_Y = 16.0


def report_hosts(receipts: Mapping[str, Sequence[Receipt]], states: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the report keeps of each host: {host: {receipts, state}}.

    `receipts` are results of receipt_info, `states` of training_job_info. Hashes of single files are counted: their fingerprint says
    the same, and a fleet has hundreds of hosts.
    """
    return {
        host: {"receipts": [_slim(receipt) for receipt in found], "state": _state(states.get(host) or {})}
        for host, found in receipts.items()
    }


def _slim(receipt: Receipt) -> Row:
    inputs = dict(receipt["inputs"])
    if isinstance(inputs.get("contents"), Mapping):
        inputs["contents"] = f"{len(inputs['contents'])} files by SHA-256"
    return {**receipt, "inputs": inputs}


def _state(found: Mapping[str, Any]) -> Row:
    status = found.get("status") or {}
    return {**status, "run_state": found.get("run_state", "absent"), "progress": found.get("progress", "absent")}


def receipt_stages(hosts: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Return the stages in the order of the pipeline: {stage, groups, absent (hosts that have none)}.

    A group is what hosts hold under one fingerprint: {fingerprint, hosts, odd, files, bytes (both (least, most)), parents, inputs,
    made_with}. Every fingerprint but the most frequent is odd and comes first.
    """
    found: dict[str, dict[str, list[tuple[str, Receipt]]]] = {}
    for host, kept in hosts.items():
        for receipt in kept["receipts"]:
            found.setdefault(receipt["stage"], {}).setdefault(receipt["fingerprint"], []).append((host, receipt))
    rows = []
    for stage in in_pipeline_order(found):
        groups = [_group(name, pairs) for name, pairs in found[stage].items()]
        usual = max(groups, key=lambda group: len(group["hosts"]))
        for group in groups:
            group["odd"] = group is not usual
        have = {host for group in groups for host in group["hosts"]}
        ordered = sorted(groups, key=lambda group: (not group["odd"], len(group["hosts"])))
        rows.append({"stage": stage, "groups": ordered, "absent": [host for host in hosts if host not in have]})
    return rows


def _group(fingerprint: str, pairs: Sequence[tuple[str, Receipt]]) -> Row:
    receipts = [receipt for _, receipt in pairs]
    # Of the run, the host that logged the loss tells most; of everything else the receipts say the same.
    fullest = max(receipts, key=lambda receipt: len(receipt["made_with"].get("losses") or []))
    files, sizes = [receipt["files"] for receipt in receipts], [receipt["bytes"] for receipt in receipts]
    return {
        "fingerprint": fingerprint,
        "hosts": [host for host, _ in pairs],
        "files": (min(files), max(files)),
        "bytes": (min(sizes), max(sizes)),
        "parents": dict(fullest["parents"]),
        "inputs": fullest["inputs"],
        "made_with": {key: value for key, value in fullest["made_with"].items() if key != "losses"},
    }


def receipt_chain(stages: Sequence[Mapping[str, Any]]) -> Row | None:
    """Lay out which artifact in use was made from which, from left to right; None without any.

    `nodes` {stage, fingerprint, x, y}, `edges` {path, broken, title}: broken is an edge to another artifact than the one in use now.
    """
    if not stages:
        return None
    usual = {row["stage"]: max(row["groups"], key=lambda group: len(group["hosts"])) for row in stages}
    names = {stage: group["fingerprint"] for stage, group in usual.items()}
    parents = {stage: dict(group["parents"]) for stage, group in usual.items()}
    for wanted in parents.copy().values():
        for stage, fingerprint in wanted.items():
            if stage not in names:  # a parent without a receipt of its own: the container
                names[stage], parents[stage] = fingerprint, {}
    depth = {stage: _depth(stage, parents, frozenset()) for stage in names}
    places: dict[str, tuple[float, float]] = {}
    for column in range(max(depth.values()) + 1):
        # In the first column level with what is made from it, so that few lines cross.
        mine = [stage for stage in names if depth[stage] == column]
        if column == 0:
            mine.sort(key=functools.partial(_beside, parents))
        for row, stage in enumerate(mine):
            places[stage] = (column * (NODE_WIDTH + GAP_X), row * (NODE_HIGH + GAP_Y))
    edges = [
        _edge(places[parent], places[stage], parent, stage, fingerprint, names[parent])
        for stage, wanted in parents.items()
        for parent, fingerprint in wanted.items()
    ]
    return {
        "width": max(x for x, _ in places.values()) + NODE_WIDTH + 2,
        "height": max(y for _, y in places.values()) + NODE_HIGH + 2,
        "node": (NODE_WIDTH, NODE_HIGH),
        "nodes": [
            {"stage": stage, "fingerprint": names[stage], "x": x + 1, "y": y + 1} for stage, (x, y) in places.items()
        ],
        "edges": edges,
    }


def _beside(parents: Mapping[str, Mapping[str, str]], stage: str) -> int:
    """Return the place in the pipeline of the first that is made from a stage; what nothing is made from comes last."""
    return next((place for place, wanted in enumerate(parents.values()) if stage in wanted), len(parents))


def _depth(stage: str, parents: Mapping[str, Mapping[str, str]], seen: frozenset[str]) -> int:
    """Return how many steps lead to a stage at most; a circle, which receipts cannot form honestly, ends the count."""
    before = [parent for parent in parents[stage] if parent not in seen]
    return max((1 + _depth(parent, parents, seen | {stage}) for parent in before), default=0)


def _edge(start: tuple[float, float], end: tuple[float, float], parent: str, stage: str, meant: str, used: str) -> Row:
    x1, y1 = start[0] + NODE_WIDTH + 1, start[1] + NODE_HIGH / 2
    x2, y2 = end[0] + 1, end[1] + NODE_HIGH / 2
    broken = meant != used
    title = f"{stage} was made from {parent} {meant}" + (f", in use now is {used}" if broken else "")
    bend = (x2 - x1) / 2 if x2 - x1 < NODE_WIDTH else GAP_X * 0.9
    return {
        "path": f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}",
        "broken": broken,
        "title": title,
    }


def training_facts(hosts: Mapping[str, Mapping[str, Any]]) -> Row:
    """Return what is known about the run in use, from its receipt or, of one that has not ended well, from what its supervisors say.

    {run_state, hosts, losses [(iteration, loss)], first_loss, expected_first_loss, loss, iteration, iterations, ms_per_iteration, attempts,
    seconds, reason, remedy, cause}; absent values are None. An empty mapping means that there is no run.
    """
    states = {
        host: kept["state"] for host, kept in hosts.items() if kept["state"].get("run_state") not in (None, "absent")
    }
    if not states:
        return {}
    told = max(states.values(), key=lambda state: len(state.get("losses") or []))
    bad = [state for state in states.values() if state["run_state"] in ("failed", "crashed", "stopped", "damaged")]
    worst = next(iter(bad), told)
    ended = told.get("ended")
    return {
        "run_state": worst["run_state"],
        "hosts": {host: state["run_state"] for host, state in states.items()},
        "losses": told.get("losses") or [],
        **{key: told.get(key) for key in TOLD},
        "attempts": told.get("attempt"),
        "seconds": ended - told["started"] if ended and told.get("started") else None,
        "reason": worst.get("reason") or "",
        "remedy": worst.get("remedy") or "",
        "cause": worst.get("cause_node") or "",
    }


TOLD = ("first_loss", "expected_first_loss", "loss", "iteration", "iterations", "ms_per_iteration", "start_iteration")


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {
            "report_hosts": report_hosts,
            "receipt_stages": receipt_stages,
            "receipt_chain": receipt_chain,
            "training_facts": training_facts,
        }
