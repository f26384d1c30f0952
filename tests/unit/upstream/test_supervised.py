# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor over the stand-in trainer: a real run ends well, one with wrong weights or samples is ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, free_ports
from tests.unit.upstream.conftest import BATCH, SEQUENCE, USUAL, VOCABULARY, WITHOUT_STATE, Bench

pytestmark = pytest.mark.xdist_group("upstream")


@pytest.fixture(scope="module")
def expected(bench: Bench) -> float:
    """The loss of the Hugging Face model on the samples that training sees first."""
    line = ["--model", bench.model, "--data-prefix", bench.data, "--seq-length", SEQUENCE, "--train-iters", 6]
    line += ["--global-batch-size", BATCH, "--micro-batch-size", 2, "--padded-vocab-size", VOCABULARY, "--json"]
    command = [sys.executable, str(ROOT / "workers" / "reference_loss.py"), *(str(item) for item in line)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return float(json.loads(done.stdout.splitlines()[-1])["loss"])


def supervise(bench: Bench, folder: Path, load: Path, first_loss: float) -> dict[str, Any]:
    """Run the supervisor of a run on this machine alone, TP2; return its last status."""
    ports = free_ports(2)
    sizes = ["--tensor-model-parallel-size", "2", "--pipeline-model-parallel-size", "1"]
    arguments = [*USUAL, *sizes, "--load", load, "--save", folder / "checkpoints", "--data-path", bench.data]
    arguments += ["--tokenizer-name-or-path", bench.model, *WITHOUT_STATE]
    launcher = ["--nproc_per_node", "2", "--nnodes", "1", "--node_rank", "0", "--master_addr", "127.0.0.1"]
    spec = {
        "run": "f",
        "attempt": 1,
        "node_rank": 0,
        "nodes": ["here"],
        "store_port": ports[1],
        "launcher": [*launcher, "--master_port", str(ports[0])],
        "master_addr": "127.0.0.1",
        "directory": str(bench.tree),
        "script": "pretrain_gpt.py",
        "arguments": [str(item) for item in arguments],
        "environment": bench.environment(),
        "expect": {"loads": True, "start": 0, "iterations": 6, "first_loss": first_loss, "random_loss": 6.24},
        "timing": {"poll": 0.2, "grace": 10.0},
    }
    folder.mkdir()
    (folder / "launch-0.json").write_text(json.dumps(spec))
    command = [sys.executable, str(ROOT / "workers" / "supervise_training.py"), "--spec", str(folder / "launch-0.json")]
    subprocess.run(command, check=False, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"})
    status: dict[str, Any] = json.loads((folder / "status-0.json").read_text())
    return status


def test_a_run_from_the_converted_weights_succeeds(bench: Bench, expected: float, tmp_path: Path) -> None:
    status = supervise(bench, tmp_path / "run", bench.checkpoint(2, 1), expected)
    assert (status["state"], status["iteration"], status["loaded_checkpoint"]) == ("succeeded", 6, True), status
    assert status["first_loss"] == pytest.approx(expected, abs=0.02)
    assert status["saved"] == 6


def test_a_wrong_load_fails(bench: Bench, expected: float, tmp_path: Path) -> None:
    status = supervise(bench, tmp_path / "run", tmp_path / "nothing-here", expected)
    assert status["state"] == "failed"
    assert "random weights" in status["reason"]
    assert status["loaded_checkpoint"] is False
    assert (status["iteration"] or 0) < 6


def test_a_checkpoint_of_other_sizes_fails_although_training_exits_0(
    bench: Bench, expected: float, tmp_path: Path
) -> None:
    status = supervise(bench, tmp_path / "run", bench.checkpoint(1, 2), expected)
    assert status["state"] == "failed"
    assert "could not load the checkpoint" in status["reason"]


def test_other_weights_than_expected_fail(bench: Bench, expected: float, tmp_path: Path) -> None:
    status = supervise(bench, tmp_path / "run", bench.checkpoint(2, 1), expected - 0.05)
    assert status["state"] == "failed"
    assert status["reason"].startswith("The first loss is ")
