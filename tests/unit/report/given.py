# SPDX-License-Identifier: GPL-3.0-or-later
"""A run as its report sees it, for as many hosts as a test wants: made by the project's own plan and filters wherever they make it."""

from __future__ import annotations

import math
from typing import Any

from ansible.plugins.loader import filter_loader

from tests.unit.plan import given as plan_given
from tests.unit.plugins import driver_hosts

BEGUN = 1_795_000_000.0  # seconds since the epoch
STAGES = (  # a play, its seconds, whether it changed something
    ("Plan the run", 4.0, False),
    ("Check the drivers", 9.0, False),
    ("Create the containers", 310.0, True),
    ("Install the sources", 95.0, True),
    ("Bring the weights", 620.0, True),
    ("Convert the weights", 280.0, True),
    ("Preprocess the dataset", 45.0, True),
    ("Train the model", 5400.0, True),
    ("Report the run", 3.0, False),
)
PARENTS = {
    "image": (),
    "mirror": (),
    "source": ("container",),
    "weights": (),
    "checkpoint": ("weights",),
    "corpus": (),
    "dataset": ("corpus", "weights"),
    "reference": ("dataset", "weights"),
    "run": ("checkpoint", "dataset", "source", "weights"),
}
ONLY_FIRST = ("corpus", "reference")  # on the conversion host alone


def call(name: str, *arguments: Any) -> Any:
    """Call a filter as a template does."""
    return filter_loader.get(name).j2_function(*arguments)


def small_plan() -> dict[str, Any]:
    """The lab's run: two hosts with two NPUs each."""
    return plan_given.make()


def large_plan(hosts: int = 64) -> dict[str, Any]:
    """The 7B model on hosts of eight NPUs."""
    fleet = plan_given.hosts(hosts, tuple(range(8)))
    sizes = {"tp": 4, "pp": 4, "global_batch_size": hosts * 16}
    recipe, model = plan_given.recipe("qwen2.5-7b-8k-pack"), plan_given.model("qwen2.5-7b")
    return plan_given.make(wanted=recipe, model=model, fleet=fleet, overrides=sizes)


def fingerprint(stage: str) -> str:
    """A name as receipts have them, the same for the same stage."""
    return f"{sum(ord(letter) * 7919**place for place, letter in enumerate(stage)) % 16**16:016x}"


def losses(count: int = 200, first: float = 2.4) -> list[list[Any]]:
    """A loss that falls from `first` towards 1.6, with a little noise that is the same every time."""
    return [
        [number, 1.6 + (first - 1.6) * math.exp(-number / (0.3 * count)) + 0.03 * math.sin(number * 12.9898)]
        for number in range(1, count + 1)
    ]


def receipt(stage: str, host: str, **changes: Any) -> dict[str, Any]:
    """A receipt of a stage as receipt_info returns it."""
    made: dict[str, Any] = {
        "stage": stage,
        "fingerprint": fingerprint(stage),
        "inputs": {"contents": {f"part-{number}": "0" * 64 for number in range(5)}},
        "made_with": {"host": host, "seconds": 61.5},
        "parents": {parent: fingerprint(parent) for parent in PARENTS[stage]},
        "files": 5,
        "bytes": 15 * 2**30,
    }
    return {**made, **changes}


def hosts_piece(names: list[str], run_state: str = "finished", curve: list[list[Any]] | None = None) -> dict[str, Any]:
    """What every host holds; the last one logged the loss."""
    curve = losses() if curve is None else curve
    receipts = {
        name: [receipt(stage, name) for stage in PARENTS if stage not in ONLY_FIRST or name == names[0]]
        for name in names
    }
    known = [loss for _, loss in curve if loss is not None]
    status = {
        "attempt": 1,
        "iteration": curve[-1][0] if curve else None,
        "iterations": 200,
        "first_loss": known[0] if known else None,
        "expected_first_loss": 2.41,
        "loss": known[-1] if known else None,
        "losses": curve,
        "ms_per_iteration": 26800.0,
        "started": BEGUN + 1400,
        "ended": BEGUN + 6760,
        "start_iteration": 0,
        "reason": "",
        "remedy": "",
        "cause_node": "",
    }
    found = {
        name: {"run_state": run_state, "progress": run_state, "status": {**status, "losses": []}} for name in names
    }
    found[names[-1]]["status"] = status
    return call("report_hosts", receipts, found)


def drivers_piece(names: list[str], broken: bool = True) -> dict[str, Any]:
    """The driver check's report: one host with an old driver, one with a dead NPU, one silent; or nothing to tell."""
    variables = {name: {"driver_check_server": driver_hosts.host()["driver_check_server"]} for name in names}
    if broken:
        alarm = driver_hosts.finding("npu.health", "error", 3, "NPU 3 reports Alarm (80E18005: HBM, uncorrectable).")
        variables[names[1]] = driver_hosts.host(driver="24.1.rc3")
        variables[names[-1]] = driver_hosts.host(findings=[alarm])
        variables[names[2 % len(names)]] = {} if len(names) > 2 else variables[names[0]]
    findings = call("driver_findings", names, variables)
    return call("driver_data", findings, names, variables, "exclude", [names[-1]] if broken else [], {})


def run_piece(names: list[str], failed: str = "", changed: bool = True) -> dict[str, Any]:
    """The times of a run; with `failed`, it ends in that stage on the second host."""
    plays, at = [], BEGUN
    for stage, seconds, work in STAGES:
        rows = {}
        for number, name in enumerate(names):
            took = seconds * (0.8 + 0.2 * math.sin(number) ** 2)
            bad = stage == failed and number == 1
            rows[name] = {
                "started": at,
                "ended": at + took,
                "ok": 6,
                "changed": int(work and changed),
                "failed": int(bad),
                "skipped": 1,
                "unreachable": 0,
                "slowest": [f"Do the longest part of it on <{name}>", took * 0.7],
            }
        plays.append({"name": stage, "tags": [stage.split()[0].lower()], "started": at, "hosts": rows})
        at += seconds
        if stage == failed:
            break
    problem = {
        "parts": [],
        "details": {},
        "hosts": [names[1]],
        "what": f"{names[1]}: no space left on device /data (0.3 GiB of 15.2 GiB)",
        "task": "Bring it",
    }
    return {
        "started": BEGUN,
        "ended": at,
        "changed": sum(row["changed"] for play in plays for row in play["hosts"].values()),
        "plays": plays,
        "playbook": "site.yml",
        "tags": [],
        "limit": "",
        "problems": [{**problem, "remedy": "Free space there, or set ascend_work_root."}] if failed else [],
        "changes": [
            {"task": stage, "actions": [f"{stage}: 2 files were missing"], "hosts": names}
            for stage, _, work in STAGES
            if work and changed
        ],
        "failed_in": [failed] if failed else [],
    }


def report(made: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The data of a whole report, as action report_file keeps them; a piece of None is one that no run has told yet."""
    names = [host["name"] for host in made["hosts"]]
    run = run_piece(names)
    pieces = {
        "plan": made,
        "drivers": drivers_piece(names),
        "hosts": hosts_piece(names),
        "run": run,
        "worked": run,
        **changes,
    }
    return {name: {"at": BEGUN + 6800, "is": piece} for name, piece in pieces.items() if piece is not None}
