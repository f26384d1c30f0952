# SPDX-License-Identifier: GPL-3.0-or-later
"""What node 0 decides from what it hears. Time is a number that the tests choose."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from _supervise_facts import Facts
from _supervise_failures import CAUSE, ECHO, JUDGED, SILENT, UNKNOWN, Failure
from _supervise_plan import ENDED, ENDING, GATHER, RUN, Job, NodeState, Seen, advance
from _supervise_spec import Expectation, Spec, Timing

TIMING = Timing(poll=1, start_timeout=100, dead_after=20, grace=10, loaded_grace=5, exit_skew=50, early_exit_skew=8)
SPEC = Spec(
    run="f",
    attempt=1,
    node_rank=0,
    nodes=["a", "b", "c"],
    launcher=[],
    master_addr="10.0.0.1",
    store_port=6001,
    directory="/s",
    script="p.py",
    arguments=[],
    environment={},
    run_directory=Path("/r"),
    expect=Expectation(True, 0, 10, 6.0),
    timing=TIMING,
)
BUSY = NodeState(SPEC.identity, quiet=False)
FINAL = Facts(loaded=0, iteration=10, iterations=10, loss=5.0, attempt_first_iteration=1, attempt_first_loss=6.0)
RUNNING = Job(phase=RUN, state="running", since=0.0)


def seen(*states: NodeState, ages: tuple[float, ...] = (0, 0, 0)) -> dict[int, Seen]:
    return {rank: Seen(state, age) for rank, (state, age) in enumerate(zip(states, ages))}


def test_it_waits_for_all() -> None:
    quiet = NodeState(SPEC.identity)
    job = advance(SPEC, Job(), seen(quiet, quiet), 50)
    assert job.phase == GATHER
    assert advance(SPEC, job, seen(quiet, quiet, quiet), 51).phase == RUN


def test_it_names_who_is_missing() -> None:
    job = advance(SPEC, Job(), seen(NodeState(SPEC.identity)), 101)
    assert (job.phase, job.state) == (ENDING, "failed")
    assert job.failure is not None
    assert job.failure.reason.startswith("b, c did not come")


def test_a_stop_before_the_start() -> None:
    job = advance(SPEC, Job(), seen(NodeState(SPEC.identity, stop=True)), 1)
    assert (job.phase, job.state) == (ENDING, "stopped")


def test_it_goes_on_while_all_is_well() -> None:
    assert advance(SPEC, RUNNING, seen(BUSY, BUSY, BUSY), 9) == replace(RUNNING, facts=Facts())


def test_all_ended_well() -> None:
    done = replace(BUSY, exit_code=0, ranks_over=True, quiet=True)
    job = advance(SPEC, RUNNING, seen(done, done, replace(done, facts=FINAL)), 9)
    assert (job.phase, job.state, job.failure) == (ENDING, "succeeded", None)
    assert advance(SPEC, job, seen(done, done, done), 10).phase == ENDED


def test_all_ended_with_status_0_and_nothing_done() -> None:
    done = replace(BUSY, exit_code=0, ranks_over=True, quiet=True)
    job = advance(SPEC, RUNNING, seen(done, done, done), 9)
    assert job.state == "failed"


def test_a_silent_node() -> None:
    job = advance(SPEC, RUNNING, seen(BUSY, BUSY, BUSY, ages=(0, 0, 21)), 30)
    assert job.state == "failed"
    assert job.failure is not None
    assert job.failure.reason.startswith("c gave no sign of life for 20 s")


def test_a_cause_that_shows_later_replaces_its_echo() -> None:
    echo = replace(BUSY, failure=Failure("lost", "", ECHO, "a"))
    cause = replace(BUSY, failure=Failure("memory", "", CAUSE, "b"))
    job = advance(SPEC, RUNNING, seen(echo, BUSY, BUSY), 5)
    assert job.failure is not None
    assert job.failure.node == "a"
    job = advance(SPEC, job, seen(echo, cause, BUSY), 6)
    assert job.phase == ENDING
    assert job.failure is not None
    assert job.failure.node == "b"


def test_a_failure_while_stopping_does_not_make_it_failed() -> None:
    job = advance(SPEC, RUNNING, seen(replace(BUSY, stop=True), BUSY, BUSY), 5)
    assert job.state == "stopped"
    broken = replace(BUSY, failure=Failure("x", "", CAUSE, "b"))
    assert advance(SPEC, job, seen(BUSY, broken, BUSY), 6).state == "stopped"


def test_it_does_not_wait_for_ever_for_processes_that_stay() -> None:
    job = Job(phase=ENDING, since=0.0, state="stopped")
    assert advance(SPEC, job, seen(BUSY, BUSY, BUSY), 10).phase == ENDING
    assert advance(SPEC, job, seen(BUSY, BUSY, BUSY), 60).phase == ENDED


def test_an_iteration_without_a_loaded_checkpoint_is_given_a_moment() -> None:
    started = replace(BUSY, facts=Facts(iteration=1, attempt_first_iteration=1, attempt_first_loss=6.0))
    job = advance(SPEC, RUNNING, seen(BUSY, BUSY, started), 10)
    assert job.phase == RUN
    assert advance(SPEC, job, seen(replace(BUSY, facts=Facts(loaded=0)), BUSY, started), 16).phase == RUN
    late = advance(SPEC, job, seen(BUSY, BUSY, started), 16)
    assert late.failure is not None
    assert "no line says" in late.failure.reason


SAVING = replace(SPEC, arguments=["--save", "/c"])


@pytest.mark.parametrize(
    ("iteration", "saved", "limit", "state"),
    [(3, None, 8, "failed"), (10, None, 50, "failed"), (10, 10, 50, "succeeded")],
)
def test_a_node_that_ends_before_the_others(iteration: int, saved: int | None, limit: float, state: str) -> None:
    over = replace(BUSY, ranks_over=True)
    going = replace(BUSY, facts=replace(FINAL, iteration=iteration, saved=saved))
    job = advance(SAVING, RUNNING, seen(over, BUSY, going), 100)
    assert job.phase == RUN
    assert advance(SAVING, job, seen(over, BUSY, going), 100 + limit).phase == RUN
    job = advance(SAVING, job, seen(over, BUSY, going), 101 + limit)
    assert (job.phase, job.state) == (ENDING, state)
    assert job.failure is not None
    assert "The ranks on a have ended" in job.failure.reason


ABORTED = Failure("torchrun ended with status 1", "", UNKNOWN, "c")
OVER = replace(BUSY, exit_code=None, ranks_over=True)  # its torchrun waits for that of the node that failed


def broken(facts: Facts, failure: Failure = ABORTED) -> NodeState:
    return replace(BUSY, exit_code=1, ranks_over=True, quiet=True, failure=failure, facts=facts)


def test_a_rank_that_dies_when_all_is_saved_takes_nothing_away() -> None:
    saved = replace(FINAL, saved=10)
    job = advance(SAVING, RUNNING, seen(OVER, BUSY, broken(saved)), 100)
    assert job.phase == RUN, "the others may end by themselves"
    job = advance(SAVING, job, seen(OVER, OVER, broken(saved)), 101)
    assert (job.phase, job.state, job.failure) == (ENDING, "succeeded", ABORTED)
    job = advance(SAVING, job, seen(*[replace(OVER, exit_code=-15, quiet=True)] * 3), 102)
    assert (job.phase, job.state) == (ENDED, "succeeded")


def test_what_was_saved_may_be_heard_a_moment_later() -> None:
    job = advance(SAVING, RUNNING, seen(BUSY, BUSY, broken(FINAL)), 100)
    assert job.phase == RUN
    heard = replace(OVER, facts=Facts(loaded=0, saved=10))
    assert advance(SAVING, job, seen(heard, OVER, broken(FINAL)), 104).state == "succeeded"
    job = advance(SAVING, job, seen(BUSY, BUSY, broken(FINAL)), 106)
    assert (job.phase, job.state, job.failure) == (ENDING, "failed", ABORTED)


def test_a_failure_while_the_last_checkpoint_is_written_is_one() -> None:
    ended = seen(*[replace(OVER, exit_code=1)] * 2, broken(replace(FINAL, saved=5)))
    assert advance(SAVING, RUNNING, ended, 100).state == "failed"


@pytest.mark.parametrize("failure", [replace(ABORTED, weight=JUDGED), replace(ABORTED, weight=SILENT)])
def test_a_judgement_stands_whenever_it_comes(failure: Failure) -> None:
    job = advance(SAVING, RUNNING, seen(OVER, OVER, broken(replace(FINAL, saved=10), failure)), 100)
    assert (job.phase, job.state, job.failure) == (ENDING, "failed", failure)


def test_a_rank_that_dies_before_the_last_iteration_ends_all() -> None:
    early = replace(FINAL, iteration=9, saved=5)
    assert advance(SAVING, RUNNING, seen(BUSY, BUSY, broken(early)), 100).state == "failed"


@pytest.mark.parametrize(
    "job", [Job(), Job(phase=ENDED, state="failed", failure=Failure("r", "m", 3, "a"), facts=FINAL)]
)
def test_a_job_survives_its_way_through_json(job: Job) -> None:
    data: dict[str, Any] = asdict(job)
    assert Job.from_dict(data) == job


def test_a_state_survives_its_way_through_json() -> None:
    state = replace(BUSY, failure=Failure("r", "m", 3, "a"), facts=FINAL, exit_code=1)
    assert NodeState.from_dict(asdict(state)) == state
