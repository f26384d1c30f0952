# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's stand-in trainer did what the real MindSpeed-LLM did with the same weights, samples and arguments (tests/data/rehearsal)."""

from __future__ import annotations

from typing import Any

import pytest

from lab import rehearsal, rehearsal_facts
from tests import real_runs
from tests.e2e.conftest import NPU_HOSTS

pytestmark = pytest.mark.docker
TOLERANCE = 1e-3  # nats per token


@pytest.fixture(scope="module")
def lab_run(finished: str) -> dict[str, Any]:
    """The facts of the finished run in use."""
    return rehearsal.facts()


@pytest.fixture(scope="module")
def same_weights(lab_run: dict[str, Any]) -> dict[str, Any]:
    """The real run with this lab's weights; each machine trains them, and another kind of processor may round otherwise."""
    real = real_runs.with_weights(lab_run["parents"]["weights"])
    if real is None:
        pytest.skip(
            "the lab's model came out otherwise on this machine than where the real trainer ran with it; to keep its run: "
            "`make rehearse`, then `LAB_VARIANT=rehearsal python -m lab.rehearsal facts`"
        )
    return real


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    return real_runs.any_of_them()


def test_weights_and_samples_are_the_same(same_weights: dict[str, Any], lab_run: dict[str, Any]) -> None:
    assert lab_run["parents"] == same_weights["parents"]
    assert lab_run["reference_loss"] == pytest.approx(same_weights["reference_loss"], abs=1e-6)


def test_the_curve_is_the_real_trainers(same_weights: dict[str, Any], lab_run: dict[str, Any]) -> None:
    ours, theirs = lab_run["curve"], same_weights["curve"]
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=TOLERANCE)
    assert ours["norm"] == pytest.approx(theirs["norm"], rel=1e-2)


def test_each_iteration_has_the_real_trainers_learning_rate(real: dict[str, Any], lab_run: dict[str, Any]) -> None:
    assert lab_run["curve"]["number"] == real["curve"]["number"]
    assert lab_run["curve"]["rate"] == real["curve"]["rate"]


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
