# SPDX-License-Identifier: GPL-3.0-or-later
"""`--check --diff` of the whole site, bare and finished: it succeeds, predicts what the real run does, and touches nothing."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import NPU_HOSTS, WORK_ROOT, Mission, Playbook, look_everywhere

pytestmark = pytest.mark.docker


def test_a_bare_lab_is_bare(mission: Mission) -> None:
    for host in NPU_HOSTS:
        assert WORK_ROOT not in mission.bare[host].files
        assert (mission.bare[host].containers, mission.bare[host].images) == ((), ())


def test_the_prediction_for_bare_servers_succeeds(mission: Mission) -> None:
    assert mission.predicted.rc == 0, mission.predicted.output[-4000:]
    assert mission.predicted.failed() == set()


def test_the_prediction_touches_nothing(mission: Mission) -> None:
    assert mission.after_prediction == mission.bare


def test_the_prediction_names_every_task_and_host_that_the_real_run_changes(mission: Mission) -> None:
    assert mission.run.rc == 0, mission.run.output[-4000:]
    assert mission.predicted.changed_tasks() == mission.run.changed_tasks()
    assert mission.predicted.changed() == mission.run.changed()


def test_the_prediction_says_of_every_change_what_and_shows_the_difference(mission: Mission) -> None:
    for change in mission.predicted.changes():
        assert change.actions, f"{change.what} on {change.host} does not say what it would do"
        if change.what != "run_plan":  # that one shows the plan itself
            assert change.result.get("diff"), f"{change.what} on {change.host} shows no difference"
    assert "WOULD CHANGE" in mission.predicted.output


def test_a_finished_lab_is_predicted_to_stay_as_it_is(finished: str, playbook: Playbook) -> None:
    before = look_everywhere()
    predicted = playbook("site.yml", cmdline="--check --diff")
    assert predicted.rc == 0, predicted.output[-4000:]
    assert predicted.changed_on_servers() == []
    assert look_everywhere() == before
