# SPDX-License-Identifier: GPL-3.0-or-later
"""What the supervisor makes of the lines of a log."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from _supervise_facts import LOSSES_KEPT, Course, Facts, judge_end, judge_first_loss, judge_iteration, merge
from _supervise_failures import CAUSE, ECHO, UNKNOWN, Failure, explain_exit, names_error, primary, recognise
from _supervise_log import Iteration, Loaded, NotLoaded, Saved, parse_line
from _supervise_spec import Expectation

CAPTURES = Path(__file__).resolve().parents[4] / "shared" / "samples" / "logs"


def iteration_line(iteration: int, loss: str = " lm loss: 5.123400E+00 |", skipped: int = 0, nans: int = 0) -> str:
    return (
        f" [2026-05-06 07:08:09] iteration {iteration:8d}/{100:8d} | consumed samples: {iteration * 16:12d} |"
        f" elapsed time per iteration (ms): 1234.5 | throughput per GPU (TFLOP/s/GPU): 9.1 |"
        f" learning rate: 1.000000E-04 | global batch size:    16 |{loss} loss scale: 1.0 | grad norm: 0.987 |"
        f" number of skipped iterations: {skipped:3d} | number of nan iterations: {nans:3d} |"
    )


def test_an_iteration() -> None:
    assert parse_line(iteration_line(7)) == Iteration(7, 100, 5.1234, 1234.5, 0, 0)


@pytest.mark.parametrize("prefix", ["", "[rank3]: ", "(worker pid=9) "])
def test_an_iteration_behind_a_prefix(prefix: str) -> None:
    event = parse_line(prefix + iteration_line(7))
    assert isinstance(event, Iteration)
    assert event.loss == 5.1234


def test_a_missing_loss_is_none() -> None:
    assert parse_line(iteration_line(7, loss="")) == Iteration(7, 100, None, 1234.5, 0, 0)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            "  successfully loaded checkpoint from /w/checkpoint/abc [ t 0, p 0 ] at iteration 0",
            Loaded("/w/checkpoint/abc", 0),
        ),
        ("  successfully loaded checkpoint from /w/run/1/ck [ t 1, p 3 ] at iteration 250", Loaded("/w/run/1/ck", 250)),
        # as release 2.2.0 prints it
        ("  successfully loaded checkpoint from /w/run/1/ck [ t 1/2, p 1/2 ] at iteration 0", Loaded("/w/run/1/ck", 0)),
        ("  successfully saved checkpoint from iteration      20 to /w/run/1/ck", Saved("/w/run/1/ck", 20)),
    ],
)
def test_what_was_loaded_and_saved(line: str, event: object) -> None:
    assert parse_line(line) == event


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: could not find the metadata file /w/nowhere/latest_checkpointed_iteration.txt ",
        "    will not load any checkpoints and will start from random",
        "could not load the checkpoint",
        "ERROR: Invalid metadata file /w/x/latest_checkpointed_iteration.txt. Exiting",
        "Unable to load optimizer from checkpoint /w/x. Specify --no-load-optim or --finetune",
    ],
)
def test_what_was_not_loaded(line: str) -> None:
    assert isinstance(parse_line(line), NotLoaded)
    failure = Course().add(parse_line(line))  # type: ignore[arg-type]
    assert failure is not None
    assert "random weights" in failure.reason


@pytest.mark.parametrize(
    "line",
    [
        "",
        " loading release checkpoint from /w/checkpoint/abc",
        "saving checkpoint at iteration      20 to /w in torch format",
        "    load-checkpoint ................................: (15.69, 17.40)",
        "  train_iters ..................................... 20",
        "WARNING: Setting args.overlap_p2p_comm to False",
    ],
)
def test_lines_that_say_nothing(line: str) -> None:
    assert parse_line(line) is None


def test_a_course_counts_from_its_first_loss() -> None:
    course = Course()
    for number in (1, 2, 3):
        assert course.add(parse_line(iteration_line(number, f" lm loss: {6 - number / 10:.6E} |"))) is None  # type: ignore[arg-type]
    facts = course.facts
    assert (facts.first_iteration, facts.first_loss, facts.iteration) == (1, 5.9, 3)
    assert course.losses == [(1, 5.9), (2, 5.8), (3, 5.7)]


def test_the_loss_curve_stays_bounded_and_keeps_its_ends() -> None:
    course = Course()
    for number in range(1, 5 * LOSSES_KEPT):
        course.add(Iteration(number, 10**6, 1.0, 1.0, 0, 0))
    kept = [point[0] for point in course.losses]
    assert len(kept) <= LOSSES_KEPT
    assert (kept[0], kept[-1]) == (1, 5 * LOSSES_KEPT - 1)
    assert kept == sorted(kept)


def test_a_resumed_course_goes_on_and_remembers_what_was_shown() -> None:
    course = Course([(1, 6.0), (2, 5.9), (3, 5.8), (4, 5.7)], start=2)
    assert course.losses == [(1, 6.0), (2, 5.9)]
    assert course.facts.shown_before == 5.8
    assert (course.facts.first_iteration, course.facts.first_loss) == (1, 6.0)
    course.add(Iteration(3, 10, 5.8, 1.0, 0, 0))
    assert course.facts.attempt_first_iteration == 3
    assert course.facts.first_iteration == 1


@pytest.mark.parametrize(
    ("event", "before", "bad"),
    [
        (Iteration(1, 9, 5.0, 1.0, 0, 0), 0, False),
        (Iteration(1, 9, None, 1.0, 0, 0), 0, True),  # NaN: Megatron leaves the loss out
        (Iteration(1, 9, None, 1.0, 0, 1), 0, True),
        (Iteration(1, 9, math.inf, 1.0, 0, 0), 0, True),
        (Iteration(1, 9, None, 1.0, 1, 0), 0, False),  # the loss scale of fp16 settles
        (Iteration(1, 9, None, 1.0, 1, 0), 50, True),
    ],
)
def test_losses_that_are_no_numbers(event: Iteration, before: int, bad: bool) -> None:
    assert (judge_iteration(event, before) is not None) is bad


def facts(**values: object) -> Facts:
    return Facts(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loss", "at", "exact", "bad"),
    [
        (6.99, 1, True, False),
        (7.03, 1, True, True),
        (6.90, 1, True, True),  # too low is wrong as well
        (6.90, 10, True, False),  # an average over ten iterations
        (9.30, 10, True, True),  # random weights, whatever the interval
        (7.30, 1, False, False),  # the expected loss is an estimate
        (9.30, 1, False, True),
    ],
)
def test_the_first_loss(loss: float, at: int, exact: bool, bad: bool) -> None:
    expect = Expectation(True, 0, 100, 7.0, exact, 0.02, 11.0)
    found = judge_first_loss(expect, facts(attempt_first_loss=loss, attempt_first_iteration=at))
    assert (found is not None) is bad


def test_without_an_expected_loss_nothing_is_compared() -> None:
    assert (
        judge_first_loss(Expectation(True, 0, 100), facts(attempt_first_loss=99.0, attempt_first_iteration=1)) is None
    )


@pytest.mark.parametrize(
    ("loss", "exact", "start", "bad"),
    [
        (10.9, False, 0, True),
        (11.6, False, 0, True),
        (6.0, False, 0, False),
        (11.6, True, 0, False),  # the comparison is switched off
        (11.6, False, 50, False),  # resumed: there is nothing to tell it from
    ],
)
def test_a_loss_that_could_not_be_computed_leaves_that_of_random_weights(
    loss: float, exact: bool, start: int, bad: bool
) -> None:
    expect = Expectation(True, start, 100, None, exact, 0.02, 11.0)
    found = judge_first_loss(expect, facts(attempt_first_loss=loss, attempt_first_iteration=start + 1))
    assert (found is not None) is bad
    assert judge_first_loss(expect, facts()) is None


GOOD = {"loaded": 0, "iteration": 100, "iterations": 100, "loss": 3.0}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, ""),
        ({"iteration": 99}, "after iteration 99 of 100"),
        ({"iteration": None}, "without logging an iteration"),
        ({"loss": math.nan}, "no finite loss"),
        ({"loss": None}, "no finite loss"),
        ({"loaded": None}, "no line says that a checkpoint was loaded"),
        ({"loaded": 50}, "at iteration 50, and not at 0"),
    ],
)
def test_the_end(change: dict[str, object], text: str) -> None:
    found = judge_end(Expectation(True, 0, 100), facts(**{**GOOD, **change}))
    assert (found.reason if found else "") == "" if not text else text in (found.reason if found else "")


def test_a_run_resumed_at_its_last_iteration_has_nothing_left_to_log() -> None:
    assert judge_end(Expectation(True, 100, 100), facts(loaded=100)) is None
    assert judge_end(Expectation(True, 50, 100), facts(loaded=50)) is not None


def test_what_the_nodes_know_together() -> None:
    first = facts(loaded=0, saved=50)
    last = facts(iteration=60, loss=2.5, first_loss=6.0, shown_before=2.6)
    together = merge([first, last, facts(iteration=59, loss=2.7)])
    assert (together.loaded, together.saved, together.iteration, together.loss) == (0, 50, 60, 2.5)
    assert together.shown_before == 2.6


@pytest.mark.parametrize(
    ("line", "text", "weight"),
    [
        (
            "RuntimeError: NPU out of memory. Tried to allocate 3.00 GiB (NPU 1; 60.97 GiB total)",
            "out of memory",
            CAUSE,
        ),
        ("OSError: [Errno 98] Address already in use", "port", CAUSE),
        ("[PID: 7] 2025-01-01 Communication_Error_Bind_IP_Port(EI0019): Failed", "port", CAUSE),
        ("ERROR: Unexpected bus error encountered in worker. Bus error (core dumped)", "Shared memory", CAUSE),
        ("OSError: [Errno 28] No space left on device", "file system is full", CAUSE),
        ("pretrain.sh: line 2: $'\\r': command not found", "Windows line ends", CAUSE),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/c/release/mp_rank_01_000/model_optim_rng.pt'",
            "shard",
            CAUSE,
        ),
        (
            "AssertionError: num_layers value from checkpoint (4) is not equal to the input argument value (8).",
            "fit",
            CAUSE,
        ),
        ("run.py: error: unrecognized arguments: --sequence-paralel", "refuses its arguments", CAUSE),
        ("AssertionError: Rank 13: found NaN in local grad norm in backward pass", "NaN", CAUSE),
        ("ModuleNotFoundError: No module named 'mindspeed'", "imported", CAUSE),
        ("ImportError: libascend_hal.so: cannot open shared object file: No such file", "not visible", CAUSE),
        ("drvRetCode=87, error code is 507010", "fault", CAUSE),
        ("dcmi model initialized failed, because the device is used. ret is -8020", "held by another", CAUSE),
        ("[ERROR] HCCL EI0006: Getting socket times out", "find each other", ECHO),
        ("RuntimeError: [../third_party/gloo/pair.cc:534] Connection closed by peer [10.0.0.2]:4242", "lost", ECHO),
    ],
)
def test_known_failures(line: str, text: str, weight: int) -> None:
    found = recognise(line)
    assert found is not None
    assert text in found.reason
    assert found.remedy
    assert found.weight == weight


@pytest.mark.parametrize("line", ["iteration 3/ 10 |", "WARNING: Setting OMP_NUM_THREADS to 1", "done with setup ..."])
def test_harmless_lines(line: str) -> None:
    assert recognise(line) is None


def test_an_unknown_end_shows_the_last_error() -> None:
    tail = [
        "Traceback (most recent call last):",
        "  File",
        "KeyError: 'layers'",
        "ChildFailedError: ",
        "  exitcode  : 1",
    ]
    found = explain_exit(1, None, tail, "/w/log")
    assert "KeyError: 'layers'" in found.reason
    assert found.weight == UNKNOWN
    assert "/w/log" in found.remedy


def test_a_killed_rank_points_to_the_memory_of_the_host() -> None:
    assert "dmesg" in explain_exit(1, None, ["  exitcode  : -9 (pid: 17)"], "/w/log").remedy


TORCHRUN = {  # its first words about a failed rank, by the version of torch that says them so
    "2.0": [
        "WARNING:torch.distributed.elastic.multiprocessing.api:Sending process 21 closing signal SIGTERM",
        "ERROR:torch.distributed.elastic.multiprocessing.api:failed (exitcode: -6) local_rank: 1 (pid: 22) of binary: python",
    ],
    "2.1": [
        "[2026-02-03 04:05:06,107] torch.distributed.elastic.multiprocessing.api: [WARNING] Sending process 21 closing signal SIGTERM",
        "[2026-02-03 04:05:06,125] torch.distributed.elastic.multiprocessing.api: [ERROR] failed (exitcode: -6) local_rank: 1",
    ],
    "2.4": [
        "W0203 04:05:06.107000 17 torch/distributed/elastic/multiprocessing/api.py:1028] Sending process 21 closing signal SIGTERM",
        "E0203 04:05:06.125000 17 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: -6) local_rank: 1",
    ],
}


@pytest.mark.parametrize("version", TORCHRUN)
def test_an_end_without_an_error_line_shows_the_last_words_and_whose_they_are(version: str) -> None:
    tail = [
        iteration_line(100),
        "terminate called without an active exception",
        *TORCHRUN[version],
        "Traceback (most recent call last):",
        '  File "/opt/torch/distributed/launcher/api.py", line 264, in launch_agent',
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
        "=" * 53,
        "Failures:",
        "[1]:",
        "  rank      : 2 (local_rank: 0)",
        "  exitcode  : -15 (pid: 21)  (SIGTERM)",
        "Root Cause (first observed failure):",
        "[0]:",
        "  rank      : 3 (local_rank: 1)",
        "  exitcode  : -6 (pid: 22)  (SIGABRT)",
        "=" * 53,
    ]
    reason = explain_exit(1, None, tail, "/w/log").reason
    assert "because rank 3 ended with -6 (pid: 22)  (SIGABRT)" in reason
    assert reason.endswith("the log says: terminate called without an active exception")


def test_torchruns_own_summary_is_no_error() -> None:
    assert not names_error("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ")
    assert names_error("[rank1]: RuntimeError: x")


def test_the_cause_goes_before_its_echo() -> None:
    echo, cause = Failure("lost", "", ECHO, "a"), Failure("memory", "", CAUSE, "b")
    assert primary([echo, cause]) is cause
    assert primary([]) is None


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="public captures of logs are not at hand")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fail-OOM-torch_npu-line.txt", "out of memory"),
        ("fail-EI0019-host-port-bind.txt", "port"),
        ("fail-EI0006-link-establish-timeout-plog.txt", "find each other"),
        ("fail-EI0011-device-memory-QP.txt", "out of memory"),
        ("fail-EI0005-param_link_stage.txt", "do not compute the same"),
        ("fail-EZ9999-no-kernel-binary-ERR01100.txt", "no kernel"),
        ("fail-EI0002-507048-notify-wait-heartbeat-lost.txt", "lost"),
        ("fail-libascend_hal-missing.txt", "not visible"),
        ("fail-EJ0001-hccp-init-mindspore.txt", "held by another"),
    ],
)
def test_public_captures_of_failures(name: str, text: str) -> None:
    found = primary(filter(None, map(recognise, (CAPTURES / name).read_text(errors="replace").splitlines())))
    assert found is not None
    assert text in found.reason


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="public captures of logs are not at hand")
def test_a_public_capture_of_a_run() -> None:
    course = Course()
    for line in (CAPTURES / "ok-rehearsal-cpu-tp2pp2-20it.txt").read_text(errors="replace").splitlines():
        event = parse_line(line)
        assert event is None or course.add(event) is None
        assert recognise(line) is None
    assert course.facts.loaded == 1
    assert (course.facts.first_iteration, course.facts.iteration, course.facts.saved) == (2, 20, 20)
    assert course.facts.loss == pytest.approx(6.228114)
