# SPDX-License-Identifier: GPL-3.0-or-later
"""Two supervisors on this machine, for real: torchrun, sockets, signals; only the training itself is a few lines that print."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import free_ports

# What it prints follows Megatron: rank 0 says what was loaded, the last rank says how it goes.
TRAINER = """
import argparse, os, signal, sys, time
parser = argparse.ArgumentParser()
for name in ("load", "fail-on", "fail-text", "quit-on", "log-nan-at", "save", "abort-on"):
    parser.add_argument(f"--{name}", default="")
parser.add_argument("--train-iters", type=int)
parser.add_argument("--first-loss", type=float, default=6.0)
parser.add_argument("--begin", type=int, default=0)
parser.add_argument("--pause", type=float, default=0.05)
parser.add_argument("--print-before-flush", action="store_true")
a = parser.parse_args()
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
print(f"rank {rank} sees {os.environ.get('FLEET_TEST')}")
if rank == 0:
    if os.path.isfile(os.path.join(a.load, "latest_checkpointed_iteration.txt")):
        print(f"  successfully loaded checkpoint from {a.load} [ t 0, p 0 ] at iteration {a.begin}")
    elif a.load:
        print(f"WARNING: could not find the metadata file {a.load}/latest_checkpointed_iteration.txt ")
        print("    will not load any checkpoints and will start from random")
if a.quit_on == str(rank):
    time.sleep(1.5)
    sys.exit(0)
for step in range(a.begin + 1, a.train_iters + 1):
    time.sleep(a.pause)
    if a.fail_on == str(rank) and step == a.begin + 3:
        raise RuntimeError(a.fail_text)
    if rank == world - 1:
        loss = "" if a.log_nan_at == str(step) else f" lm loss: {a.first_loss - 0.1 * (step - 1):.6E} |"
        print(f" [2026-01-02 03:04:05] iteration {step:8d}/{a.train_iters:8d} | consumed samples: {step * 8:12d} |"
              f" elapsed time per iteration (ms): 50.0 | learning rate: 1.0E-04 | global batch size:     8 |{loss}"
              f" loss scale: 1.0 | grad norm: 1.1 | number of skipped iterations:   0 | number of nan iterations:   0 |")
if rank == 0 and a.save:
    print(f"  successfully saved checkpoint from iteration {a.train_iters:7d} to {a.save}")
if a.abort_on == str(rank):
    time.sleep(1.0)
    print("terminate called without an active exception", flush=True)
    os.abort()
"""
TIMING = {
    "poll": 0.2,
    "start_timeout": 30.0,
    "dead_after": 10.0,
    "grace": 4.0,
    "loaded_grace": 4.0,
    "exit_skew": 15.0,
    "early_exit_skew": 5.0,
}


class Fleet:
    """Run directories of two nodes and their supervisors."""

    def __init__(self, root: Path, workers: Path) -> None:
        self.root = root
        self.workers = workers
        self.ports = free_ports(2)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.checkpoint = root / "checkpoint"
        self.checkpoint.mkdir()
        (self.checkpoint / "latest_checkpointed_iteration.txt").write_text("release")
        (root / "source").mkdir()
        (root / "source" / "pretrain_gpt.py").write_text(TRAINER)

    def directory(self, rank: int) -> Path:
        return self.root / f"node-{rank}"

    def write(self, rank: int, arguments: list[str], **changes: Any) -> Path:
        folder = self.directory(rank)
        folder.mkdir(exist_ok=True)
        # A test that ends the training early says fewer iterations than the run is for.
        asked = int(arguments[arguments.index("--train-iters") + 1]) if "--train-iters" in arguments else 6
        load = [] if "--load" in arguments else ["--load", str(self.checkpoint)]
        spec = {
            "run": "0123456789abcdef",
            "attempt": 1,
            "node_rank": rank,
            "nodes": ["first", "second"],
            "launcher": [
                "--nproc_per_node",
                "1",
                "--nnodes",
                "2",
                "--node_rank",
                str(rank),
                "--master_addr",
                "127.0.0.1",
                "--master_port",
                str(self.ports[0]),
            ],
            "master_addr": "127.0.0.1",
            "store_port": self.ports[1],
            "directory": str(self.root / "source"),
            "script": "pretrain_gpt.py",
            "arguments": ["--train-iters", "6", *load, *arguments],
            "environment": {"FLEET_TEST": f"node {rank}"},
            "expect": {
                "loads": True,
                "start": 0,
                "iterations": max(asked, 6),
                "first_loss": 6.005,
                "tolerance": 0.02,
                "random_loss": 7.0,
            },
            "timing": TIMING,
        }
        expect = {**spec["expect"], **changes.pop("expect", {})}  # type: ignore[dict-item]
        timing = {**TIMING, **changes.pop("timing", {})}
        path = folder / "launch.json"
        path.write_text(json.dumps({**spec, **changes, "expect": expect, "timing": timing}))
        return path

    def start(self, rank: int, *arguments: str, **changes: Any) -> None:
        path = self.write(rank, list(arguments), **changes)
        with open(self.directory(rank) / "supervisor.log", "ab") as log:
            self.processes[rank] = subprocess.Popen(
                [sys.executable, str(self.workers / "supervise_training.py"), "--spec", str(path)],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
            )

    def start_both(self, *arguments: str, **changes: Any) -> None:
        for rank in (0, 1):
            self.start(rank, *arguments, **changes)

    def status(self, rank: int) -> dict[str, Any]:
        path = self.directory(rank) / "status-0.json"
        path = path if rank == 0 else path.with_name("status-1.json")
        return json.loads(path.read_text()) if path.exists() else {}

    def log(self, rank: int) -> str:
        path = self.directory(rank) / "logs" / f"node-{rank}.log"
        return path.read_text() if path.exists() else ""

    def wait(self, *ranks: int) -> list[int]:
        return [self.processes[rank].wait(timeout=90) for rank in ranks or (0, 1)]

    def until(self, true: Callable[[], bool]) -> None:
        limit = time.monotonic() + 60
        while not true():
            assert time.monotonic() < limit, (self.status(0), self.status(1))
            time.sleep(0.05)


@pytest.fixture
def fleet(tmp_path: Path, workers: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, workers)
    yield made
    for process in made.processes.values():
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def nothing_left(fleet: Fleet) -> bool:
    """Say whether no process of this fleet's training runs any more."""
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if str(fleet.checkpoint) in (folder / "cmdline").read_text(errors="replace"):
                return False
    return True


def test_two_nodes_train_together(fleet: Fleet) -> None:
    fleet.start_both()
    assert fleet.wait() == [0, 0]
    for rank in (0, 1):
        status = fleet.status(rank)
        assert (status["state"], status["iteration"], status["iterations"]) == ("succeeded", 6, 6)
        assert status["first_loss"] == 6.0
        assert status["loss"] == pytest.approx(5.5)
        assert status["ms_per_iteration"] == 50.0
        assert status["loaded_checkpoint"] is True
        assert status["exit_code"] == 0
        assert status["final"] is True
        assert status["node"] == ("first", "second")[rank]
    assert fleet.status(1)["losses"][0] == [1, 6.0]
    assert [point[0] for point in fleet.status(1)["losses"]] == [1, 2, 3, 4, 5, 6]
    assert "rank 0 sees node 0" in fleet.log(0)
    assert "iteration        6/       6" in fleet.log(1)


def test_the_failure_of_one_node_ends_the_other(fleet: Fleet) -> None:
    fleet.start_both("--fail-on", "1", "--fail-text", "NPU out of memory. Tried to allocate 2 GiB", "--pause", "0.2",
                     "--train-iters", "600")  # fmt: skip
    assert fleet.wait() == [1, 1]
    for rank in (0, 1):
        status = fleet.status(rank)
        assert status["state"] == "failed"
        assert "ran out of memory" in status["reason"]
        assert "micro batch" in status["remedy"]
        assert status["cause_node"] == "second"
    assert nothing_left(fleet)


def test_an_unknown_failure_shows_the_last_error(fleet: Fleet) -> None:
    fleet.start_both(
        "--fail-on", "0", "--fail-text", "the frobnicator is bent", "--pause", "0.2", "--train-iters", "600"
    )
    assert fleet.wait() == [1, 1]
    assert "RuntimeError: the frobnicator is bent" in fleet.status(1)["reason"]
    assert fleet.status(1)["cause_node"] == "first"


def test_a_missing_node_is_named(fleet: Fleet) -> None:
    fleet.start(0, timing={"start_timeout": 4.0})
    assert fleet.wait(0) == [1]
    status = fleet.status(0)
    assert status["state"] == "failed"
    assert status["reason"].startswith("second did not come to the start within 4 s")
    assert fleet.log(0) == "", "nothing may be started before everybody is there"


def test_a_missing_first_node_is_named(fleet: Fleet) -> None:
    fleet.start(1, timing={"start_timeout": 4.0})
    assert fleet.wait(1) == [1]
    assert "supervisor of first" in fleet.status(1)["reason"]


def test_a_node_of_another_attempt_is_refused(fleet: Fleet) -> None:
    fleet.start(0)
    fleet.start(1, attempt=2)
    assert fleet.wait() == [1, 1]
    assert "second came with another run, attempt or layout" in fleet.status(0)["reason"]
    assert fleet.log(0) + fleet.log(1) == ""


def test_a_wrong_load_directory_fails_the_run(fleet: Fleet) -> None:
    fleet.start_both("--load", str(fleet.root / "nowhere"), "--pause", "0.2", "--train-iters", "600")
    assert fleet.wait() == [1, 1]
    status = fleet.status(1)
    assert "did not load its checkpoint" in status["reason"]
    assert "could not find the metadata file" in status["reason"]
    assert status["loaded_checkpoint"] is False
    assert nothing_left(fleet)


def test_a_run_that_never_says_what_it_loaded_fails(fleet: Fleet) -> None:
    fleet.start_both("--load", "", "--pause", "0.2", "--train-iters", "600")
    assert fleet.wait() == [1, 1]
    assert "no line says that a checkpoint was loaded" in fleet.status(0)["reason"]


def test_a_wrong_first_loss_fails_the_run_at_once(fleet: Fleet) -> None:
    fleet.start_both("--first-loss", "6.9", "--pause", "0.2", "--train-iters", "600")
    assert fleet.wait() == [1, 1]
    status = fleet.status(0)
    assert "The first loss is 6.90000 at iteration 1; expected was 6.00500 within 0.02" in status["reason"]
    assert status["iteration"] < 100


def test_a_loss_that_is_not_a_number_fails_the_run(fleet: Fleet) -> None:
    fleet.start_both("--log-nan-at", "4", "--pause", "0.2", "--train-iters", "600")
    assert fleet.wait() == [1, 1]
    assert fleet.status(0)["reason"].startswith("At iteration 4 the loss is not a number")


def test_an_early_end_with_status_0_is_no_success(fleet: Fleet) -> None:
    fleet.start_both("--train-iters", "4")
    assert fleet.wait() == [1, 1]
    assert "after iteration 4 of 6" in fleet.status(1)["reason"]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_dies_when_all_is_saved_is_a_remark(fleet: Fleet, rank: int) -> None:
    fleet.start_both("--save", str(fleet.root / "checkpoints"), "--abort-on", str(rank))
    assert fleet.wait() == [0, 0]
    status = fleet.status(1 - rank)
    assert (status["state"], status["iteration"], status["saved"]) == ("succeeded", 6, 6)
    assert f"rank {rank} ended with -6" in status["reason"]
    assert "terminate called without an active exception" in status["reason"]
    assert nothing_left(fleet)


def test_one_node_that_ends_early_with_status_0_ends_all(fleet: Fleet) -> None:
    fleet.start_both("--quit-on", "0", "--pause", "0.5", "--train-iters", "600")
    assert fleet.wait() == [1, 1]
    assert "The ranks on first have ended" in fleet.status(1)["reason"]
    assert nothing_left(fleet)


@pytest.mark.parametrize("way", ["file", "signal"])
def test_a_stop_on_one_node_ends_both(fleet: Fleet, way: str) -> None:
    fleet.start_both("--pause", "0.2", "--train-iters", "600")
    fleet.until(lambda: (fleet.status(0).get("iteration") or 0) >= 2)
    if way == "file":
        (fleet.directory(1) / "stop").write_text("")
    else:
        fleet.processes[1].send_signal(signal.SIGTERM)
    assert fleet.wait() == [0, 0]
    for rank in (0, 1):
        assert fleet.status(rank)["state"] == "stopped"
        assert "second" in fleet.status(rank)["reason"]
    assert nothing_left(fleet)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_supervisor_ends_its_ranks_and_the_other_node(fleet: Fleet, victim: int) -> None:
    fleet.start_both("--pause", "0.2", "--train-iters", "6000")
    fleet.until(lambda: (fleet.status(0).get("iteration") or 0) >= 2)
    fleet.processes[victim].kill()
    other = 1 - victim
    assert fleet.wait(other) == [1]
    status = fleet.status(other)
    assert status["state"] == "failed"
    assert ("first", "second")[victim] in status["reason"]
    assert "sign of life" in status["reason"]
    fleet.until(lambda: nothing_left(fleet))


def test_a_resumed_run_has_to_show_its_loss_again(fleet: Fleet) -> None:
    fleet.start_both()
    assert fleet.wait() == [0, 0]
    changes: dict[str, Any] = {"attempt": 2, "expect": {"start": 3, "first_loss": None}}
    fleet.start_both("--begin", "3", **changes)
    assert fleet.wait() == [0, 0]
    status = fleet.status(1)
    assert status["attempt"] == 2
    assert [point[0] for point in status["losses"]] == [1, 2, 3, 4, 5, 6]
    assert status["first_loss"] == 6.0
    assert status["expected_first_loss"] == pytest.approx(5.7)
    assert "iteration        1/" in (fleet.directory(1) / "logs" / "node-1.1.log").read_text(), "the old log is kept"
    changes["attempt"] = 3
    fleet.start_both("--begin", "3", "--first-loss", "6.5", **changes)
    assert fleet.wait() == [1, 1]
    assert "expected was 5.70000" in fleet.status(1)["reason"]


def test_a_taken_port_is_said(fleet: Fleet) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", fleet.ports[1]))
        taken.listen()
        fleet.start(0)
        assert fleet.wait(0) == [1]
    assert f"Port {fleet.ports[1]} cannot be opened" in fleet.status(0)["reason"]


def test_one_supervisor_a_node(fleet: Fleet) -> None:
    fleet.start(0)
    fleet.until(lambda: fleet.status(0).get("state") == "starting")
    first = fleet.processes[0]
    fleet.start(0)
    assert fleet.wait(0) == [1]
    assert "already supervised" in (fleet.directory(0) / "supervisor.log").read_text()
    fleet.processes[9] = first
