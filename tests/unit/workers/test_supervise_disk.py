# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that takes nothing for a while: the training goes on, and the verdict gets to the disk when there is room again."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import _supervise_output
import _supervise_process
import pytest
import supervise_training
from _supervise_failures import CAUSE, UNKNOWN, Failure, recognise
from _supervise_output import Output, write_whole
from _supervise_plan import ENDED, RUN, Job
from _supervise_process import Training
from _supervise_spec import Expectation, Spec, Timing
from supervise_training import Supervisor


def refusal(number: int = errno.ENOSPC) -> OSError:
    return OSError(number, os.strerror(number), "/w/run/status-0.new")


class Peers:
    """The other nodes: they go through these jobs, and all is decided in the end."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
        self.closed = False
        self.said: list[Any] = []

    def start(self) -> None:
        """Nothing to start."""

    def job(self) -> Job:
        return self.jobs.pop(0) if len(self.jobs) > 1 else self.jobs[0]

    def failure(self) -> None:
        """Nobody is lost."""

    def say(self, state: Any) -> None:
        self.said.append(state)

    def close(self, patience: float) -> None:
        self.closed = True


class Trained:
    """Ranks that have ended with status 1 and said these lines; `output.trouble` is the log's."""

    pid, stopping = 7, False

    def __init__(self, *lines: str, trouble: OSError | None = None) -> None:
        self._lines = list(lines)
        self.output = SimpleNamespace(trouble=trouble)

    def exit_code(self) -> int:
        return 1

    def lines(self) -> Iterator[str]:
        while self._lines:
            yield self._lines.pop(0)

    def quiet(self) -> bool:
        return True

    ranks_over = quiet

    def stop(self) -> None:
        """It is over."""


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    timing = Timing(poll=0.01, last_word=5.0)
    expect = Expectation(True, 0, 10, 6.0)
    return Spec("f", 1, 0, ["a", "b"], [], "127.0.0.1", 1, str(tmp_path), "p.py", [], {}, tmp_path, expect, timing)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The disk under the status file: `refuse` writes raise what `error` says, the others are real."""
    state = SimpleNamespace(refuse=0, error=refusal(), asked=0)
    real = supervise_training.write_status

    def write(spec: Spec, content: dict[str, Any]) -> None:
        state.asked += 1
        if state.asked <= state.refuse:
            raise state.error
        real(spec, content)

    monkeypatch.setattr(supervise_training, "write_status", write)
    return state


def supervisor(spec: Spec, *jobs: Job, training: Any = None) -> Supervisor:
    made = Supervisor(spec)
    made.peers = Peers(list(jobs))  # type: ignore[assignment]
    made.training = training or Trained()
    return made


RUNNING, OVER = Job(phase=RUN, state="running"), Job(phase=ENDED, state="succeeded")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_status_that_cannot_be_written_ends_nothing(spec: Spec, disk: SimpleNamespace, number: int) -> None:
    disk.refuse, disk.error = 2, refusal(number)
    made = supervisor(spec, RUNNING, RUNNING, OVER)
    assert made.run() == OVER
    assert disk.asked == 3, "one for each look, and none after the one that was taken"
    assert json.loads(spec.status_path.read_text())["state"] == "succeeded"


def test_the_verdict_is_written_when_there_is_room_again(spec: Spec, disk: SimpleNamespace) -> None:
    disk.refuse = 5
    made = supervisor(spec, RUNNING, OVER)
    made.run()
    assert disk.asked == 6
    assert json.loads(spec.status_path.read_text())["final"] is True
    assert made.peers.closed, "the other nodes do not wait for this one's disk"


def test_a_verdict_that_no_disk_takes_is_said(
    spec: Spec, disk: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    disk.refuse = 10**9
    made = supervisor(replace(spec, timing=replace(spec.timing, last_word=0.05)), OVER)
    assert made.run() == OVER
    said = capsys.readouterr().err
    assert "No space left on device" in said and "succeeded" in said
    assert not spec.status_path.exists()


@pytest.mark.parametrize("where", ["status", "log"])
def test_ranks_that_die_beside_a_full_disk_die_of_it(spec: Spec, disk: SimpleNamespace, where: str) -> None:
    died = "RuntimeError: PytorchStreamWriter failed writing file data/3: file write failed"
    training = Trained(died, "Connection reset by peer", trouble=refusal() if where == "log" else None)
    made = supervisor(spec, RUNNING, training=training)
    made.unwritten = refusal() if where == "status" else None
    made._step()
    assert made.failure is not None
    assert made.failure.reason.startswith("A file system is full. The supervisor could not write: [Errno 28]")
    assert (made.failure.weight, made.failure.node) == (CAUSE, "a")


def test_a_disk_that_has_room_again_explains_nothing(spec: Spec, disk: SimpleNamespace) -> None:
    disk.refuse = 1
    made = supervisor(spec, RUNNING, training=Trained("KeyError: 'layers'"))
    made._write({})
    assert made.unwritten is not None
    made._write({})
    made._step()
    assert made.failure is not None
    assert made.failure.weight == UNKNOWN
    assert "KeyError" in made.failure.reason


def test_what_the_ranks_themselves_say_goes_first(spec: Spec) -> None:
    made = supervisor(spec, RUNNING, training=Trained("NPU out of memory. Tried to allocate 2 GiB"))
    made.unwritten = refusal()
    made._step()
    assert made.failure is not None
    assert "ran out of memory" in made.failure.reason


@pytest.mark.parametrize(
    ("number", "meaning"),
    [
        (errno.ENOSPC, "A file system is full."),
        (errno.EDQUOT, "A file system is full."),
        (errno.EIO, "A disk or its network failed."),
    ],
)
def test_what_disks_say_is_known(number: int, meaning: str) -> None:
    found = recognise(f"OSError: {refusal(number)}")
    assert isinstance(found, Failure)
    assert found.reason.startswith(meaning)
    assert found.weight == CAUSE


def test_a_refused_file_leaves_the_old_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "status-0.json"
    write_whole(path, "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(refusal()))
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path], "what was begun would take the room that is missing"


class Disk:
    """A log file on a disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room, self.data, self.closed = room, b"", False

    def write(self, data: bytes) -> int:
        if not self.room:
            raise refusal()
        taken = data[: self.room]
        self.room -= len(taken)
        self.data += taken
        return len(taken)

    def close(self) -> None:
        self.closed = True


def log_on(monkeypatch: pytest.MonkeyPatch, disk: Disk) -> Output:
    monkeypatch.setattr(_supervise_output, "open_log", lambda path: disk)
    return Output(Path("/w/logs/node-0.log"))


def test_lines_that_are_lost_are_counted_where_they_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(room=6)
    log = log_on(monkeypatch, disk)
    for line in (b"one\n", b"two\n", b"three\n"):
        log.write(line)
    assert log.trouble is not None
    disk.room = 1000
    log.write(b"four\n")
    assert log.trouble is None
    lost = b"[ascend-fleet] 2 lines are missing here: the log could not be written (No space left on device)\n"
    assert disk.data == b"one\ntw\n" + lost + b"four\n"
    log.close()
    assert disk.closed


def test_the_end_of_the_log_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(room=0)
    log = log_on(monkeypatch, disk)
    log.write(b"one\n")
    log.close()
    assert disk.data == b""
    log = log_on(monkeypatch, disk)
    log.write(b"one\n")
    disk.room = 1000
    log.close()
    assert disk.data.startswith(b"[ascend-fleet] 1 line is missing here")


def test_a_log_that_cannot_be_opened_is_opened_later(tmp_path: Path) -> None:
    log = Output(tmp_path / "logs" / "node-0.log")
    (tmp_path / "logs").write_text("in the way")
    log.write(b"one\n")
    assert log.trouble is not None
    (tmp_path / "logs").unlink()
    log.write(b"two\n")
    log.close()
    assert log.path.read_text().splitlines()[1:] == ["two"]
    assert "1 line is missing here" in log.path.read_text()


def test_ranks_are_listened_to_while_the_disk_is_full(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = 4000  # of 100 bytes: several times what a pipe holds
    program = f"for number in range({lines}): print(f'{{number:099d}}')"
    monkeypatch.setattr(_supervise_process, "command", lambda spec: [sys.executable, "-c", program])
    monkeypatch.setattr(_supervise_process, "_prctl", lambda *_: None)  # this process is to stay as it is
    monkeypatch.setattr(_supervise_output, "open_log", lambda path: Disk(room=150))
    training = Training(spec)
    heard: list[str] = []
    limit = time.monotonic() + 30
    while training.exit_code() is None or len(heard) < lines:
        assert time.monotonic() < limit, f"{len(heard)} lines were heard"
        heard += training.lines()
        time.sleep(0.01)
    assert training.exit_code() == 0
    assert int(heard[-1]) == lines - 1
    assert training.output.trouble is not None
