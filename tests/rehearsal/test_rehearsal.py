# SPDX-License-Identifier: GPL-3.0-or-later
"""The real MindSpeed-LLM through site.yml: everything is shown, and it is what the committed facts say."""

from __future__ import annotations

from typing import Any

import pytest

from tests import real_runs
from tests.rehearsal.conftest import Rehearsal

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def found(rehearsal: Rehearsal) -> dict[str, Any]:
    return rehearsal.facts()


def test_everything_is_shown(rehearsal: Rehearsal) -> None:
    assert rehearsal.status == 0, rehearsal.output[-6000:]
    lines = rehearsal.output.splitlines()
    assert len([line for line in lines if line.startswith("ok   ")]) == 6
    assert not [line for line in lines if line.startswith("NOT  ")]


def test_its_run_is_the_one_that_the_stand_in_is_held_to(found: dict[str, Any]) -> None:
    kept = real_runs.any_of_them()
    for name in ("commits", "saved"):
        assert found[name] == kept[name]
    assert found["curve"]["rate"] == kept["curve"]["rate"]
    for host, lines in kept["lines"].items():
        assert set(found["lines"][host]) == set(lines)


def test_its_losses_are_those_that_were_kept(found: dict[str, Any]) -> None:
    kept = real_runs.with_weights(found["parents"]["weights"])
    if kept is None:
        pytest.skip("the lab's model came out otherwise on this machine than where a run was kept")
    assert found["parents"] == kept["parents"]
    assert found["curve"]["loss"] == pytest.approx(kept["curve"]["loss"], abs=1e-3)
