# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's stand-in trainer did what the real MindSpeed-LLM did with the same weights, samples and arguments (tests/data/rehearsal)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab import rehearsal, rehearsal_facts
from tests.conftest import ROOT
from tests.e2e.conftest import NPU_HOSTS

pytestmark = pytest.mark.docker
TOLERANCE = 1e-3  # nats per token


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((ROOT / "tests" / "data" / "rehearsal" / "run.json").read_text())
    return facts


@pytest.fixture(scope="module")
def lab_run(finished: str) -> dict[str, Any]:
    """The facts of the finished run in use."""
    return rehearsal.facts()


@pytest.fixture
def same_weights(real: dict[str, Any], lab_run: dict[str, Any]) -> None:
    """The lab's model is trained on each machine, and another kind of processor may round otherwise."""
    if lab_run["parents"]["weights"] != real["parents"]["weights"]:
        pytest.skip("the lab's model came out otherwise on this machine than where the real trainer ran with it")


def test_weights_and_samples_are_the_same(same_weights: None, real: dict[str, Any], lab_run: dict[str, Any]) -> None:
    assert lab_run["parents"] == real["parents"]
    assert lab_run["reference_loss"] == pytest.approx(real["reference_loss"], abs=1e-6)


def test_the_curve_is_the_real_trainers(same_weights: None, real: dict[str, Any], lab_run: dict[str, Any]) -> None:
    ours, theirs = lab_run["curve"], real["curve"]
    assert ours["number"] == theirs["number"]
    assert ours["rate"] == theirs["rate"]
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=TOLERANCE)
    assert ours["norm"] == pytest.approx(theirs["norm"], rel=1e-2)


def test_each_host_saves_what_the_real_trainer_saves_there(real: dict[str, Any], lab_run: dict[str, Any]) -> None:
    last = f"iter_{int(real['curve']['number'][-1]):07d}/"
    for host in NPU_HOSTS:
        of_the_end = [name for name in real["saved"][host] if name.startswith(last) or "/" not in name]
        assert [name for name in lab_run["saved"][host] if name.startswith(last) or "/" not in name] == of_the_end


def test_each_host_prints_only_lines_that_the_real_trainer_prints_there(
    real: dict[str, Any], lab_run: dict[str, Any]
) -> None:
    for host in NPU_HOSTS:
        assert rehearsal_facts.unknown(lab_run["lines"][host], real["lines"][host]) == []
