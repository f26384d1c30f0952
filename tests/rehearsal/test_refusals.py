# SPDX-License-Identifier: GPL-3.0-or-later
"""What the real trainer does wrong with exit status 0, under the supervisor: each ends as a failure with its cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lab.rehearsal import CONTAINER, ENVIRONMENT, WORK_ROOT
from tests.rehearsal.conftest import Rehearsal

pytestmark = pytest.mark.docker
HOST = "npu-1"
Change = Callable[[list[str]], None]


def put(arguments: list[str], option: str, value: str) -> None:
    arguments[arguments.index(option) + 1] = value


def one_rank(arguments: list[str]) -> None:
    put(arguments, "--tensor-model-parallel-size", "1")
    put(arguments, "--pipeline-model-parallel-size", "1")


def wrong_load(arguments: list[str]) -> None:
    one_rank(arguments)
    put(arguments, "--load", f"{WORK_ROOT}/nothing-here")


def without_biases(arguments: list[str]) -> None:
    """The weights have biases, and the model that the arguments describe has none."""
    one_rank(arguments)
    put(arguments, "--load", f"{WORK_ROOT}/refusals/one-rank")
    arguments.remove("--add-qkv-bias")


def supervised(rehearsal: Rehearsal, name: str, change: Change) -> dict[str, Any]:
    """Run the finished run's launch once more, alone on one host with one rank and changed arguments; return the last status."""
    spec = json.loads(rehearsal.on_host(HOST, "cat", f"{WORK_ROOT}/run/current/launch-0.json"))
    folder = f"{WORK_ROOT}/refusals/{name}"
    change(spec["arguments"])
    put(spec["arguments"], "--save", f"{folder}/checkpoints")
    launcher = ["--nproc_per_node", "1", "--nnodes", "1", "--node_rank", "0", "--master_addr", "127.0.0.1"]
    spec.update(run=name, nodes=[HOST], launcher=[*launcher, "--master_port", "6100"], store_port=6101)
    spec.update(master_addr="127.0.0.1", timing={"poll": 0.5, "grace": 10})
    rehearsal.on_host(HOST, "mkdir", "-p", folder)
    rehearsal.on_host(HOST, "rm", "-rf", f"{folder}/logs", f"{folder}/status-0.json")
    rehearsal.on_host(HOST, "tee", f"{folder}/launch-0.json", stdin=json.dumps(spec))
    in_container(rehearsal, "supervise_training.py", "--spec", f"{folder}/launch-0.json", may_fail=True)
    status: dict[str, Any] = json.loads(rehearsal.on_host(HOST, "cat", f"{folder}/status-0.json"))
    return status


def in_container(rehearsal: Rehearsal, program: str, *words: str, may_fail: bool = False) -> None:
    sourced = "; ".join([*(f"source {script}" for script in ENVIRONMENT), '"$@"' + (" || true" if may_fail else "")])
    command = ["python", f"{WORK_ROOT}/workers/{program}", *words]
    rehearsal.on_host(HOST, "docker", "exec", CONTAINER, "bash", "-c", sourced, "--", *command)


def test_a_wrong_load_directory(rehearsal: Rehearsal) -> None:
    status = supervised(rehearsal, "wrong-load", wrong_load)
    assert status["state"] == "failed"
    assert status["loaded_checkpoint"] is False
    assert "random weights" in status["reason"]
    assert f"{WORK_ROOT}/nothing-here" in status["reason"]
    assert not status["losses"], "it is ended as soon as that is known"


def test_a_checkpoint_of_other_parallel_sizes(rehearsal: Rehearsal) -> None:
    status = supervised(rehearsal, "other-sizes", one_rank)
    assert status["state"] == "failed"
    assert "could not load the checkpoint" in status["reason"]
    assert not status["losses"]


def test_a_model_without_the_biases_that_the_weights_have(rehearsal: Rehearsal) -> None:
    target = f"{WORK_ROOT}/refusals/one-rank"
    weights = ["--hf", f"{WORK_ROOT}/weights/current", "--out", target, "--tp", "1", "--pp", "1"]
    rehearsal.on_host(HOST, "rm", "-rf", target)
    in_container(rehearsal, "convert_checkpoint.py", "hf2mcore", *weights)
    status = supervised(rehearsal, "no-biases", without_biases)
    assert status["state"] == "failed"
    assert "linear_qkv.bias" in status["reason"]
