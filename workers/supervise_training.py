# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one node's part of a training run and watches it; started in the container, it outlives ssh and the controller.

    python supervise_training.py --spec <run directory>/launch-<node rank>.json

The supervisors of all nodes start together, stop together and come to one verdict, which is never the exit status alone. What is known
stands in `status-<node rank>.json` beside the launch file, the output of the ranks in `logs/node-<node rank>.log`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, Deque, Dict, List, Optional

from _common import WorkerError
from _supervise_facts import Course
from _supervise_failures import Failure, explain_exit, names_error, primary, recognise
from _supervise_log import parse_line
from _supervise_peers import Peers
from _supervise_plan import ENDED, ENDING, GATHER, Job, NodeState
from _supervise_process import Training
from _supervise_spec import Spec, read_spec
from _supervise_status import Local, earlier_losses, status, write_status

TAIL = 200  # lines kept to explain an end without a known text


class Supervisor:
    """One node's part of a run."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.course = Course(earlier_losses(spec), spec.expect.start)
        self.peers = Peers(spec)
        self.training: Optional[Training] = None
        self.failure: Optional[Failure] = None
        self.known: Optional[Failure] = None
        self.tail: Deque[str] = deque(maxlen=TAIL)
        self.stop_asked = False
        self.unwritten: Optional[OSError] = None  # why the last status is not on disk
        self.started = time.time()

    def run(self) -> Job:
        """Take part until the verdict stands; returns it."""
        self.peers.start()
        while True:
            job = self._step()
            content = status(self.spec, job, self._local(job))
            self._write(content)
            if job.phase == ENDED:
                break
            time.sleep(self._pause)
        self.peers.close(patience=self.spec.timing.dead_after)
        self._insist(content)
        return job

    @property
    def _pause(self) -> float:
        return min(self.spec.timing.poll, 1.0)

    def _write(self, content: Dict[str, Any]) -> None:
        """Write the status, or remember why that fails: a training of days does not end over a disk that is full for a minute."""
        try:
            write_status(self.spec, content)
            self.unwritten = None
        except OSError as error:
            self.unwritten = error

    def _insist(self, content: Dict[str, Any]) -> None:
        """Get the verdict to the disk when somebody makes room within `last_word` seconds; the other nodes have heard it already."""
        until = time.monotonic() + self.spec.timing.last_word
        while self.unwritten is not None and time.monotonic() < until:
            time.sleep(self._pause)
            self._write(content)
        if self.unwritten is not None:
            say(f"error: the verdict is not on disk ({self.unwritten}): {content['state']}. {content['reason']}")

    def _local(self, job: Job) -> Local:
        pid = self.training.pid if self.training is not None else None
        ended = time.time() if job.phase == ENDED else None
        return Local(self.started, pid, self.exit_code(), self.course.losses, ended)

    def _step(self) -> Job:
        with contextlib.suppress(OSError):  # a disk that fails does not ask for a stop
            self.stop_asked = self.stop_asked or self.spec.stop_path.exists()
        job = self.peers.job()
        lost = self.peers.failure()
        if lost is not None and job.phase != ENDED:
            return self._alone(lost, job)
        if job.phase not in (GATHER, ENDING, ENDED) and self.training is None:
            self.training = Training(self.spec)
        self._listen()
        if job.phase in (ENDING, ENDED) and self.training is not None:
            self.training.stop()
        self.peers.say(self._state())
        return job

    def _alone(self, lost: Failure, job: Job) -> Job:
        """End this node's part without the others: node 0 cannot be heard."""
        self._listen()
        if self.training is not None and not self.training.quiet():
            self.training.stop()
            return replace(job, phase=ENDING, state="failed", failure=lost)
        own = [failure for failure in (self.failure,) if failure is not None]
        facts = self.course.facts
        return replace(job, phase=ENDED, state="failed", failure=primary([lost, *own]), facts=facts)

    def _listen(self) -> None:
        """Take in what the ranks said. What they say after they were told to end explains nothing any more."""
        if self.training is None:
            return
        code = self.training.exit_code()  # before the lines are drained, so that none of them is missed
        for line in self.training.lines():
            if not self.training.stopping:
                self._hear(line)
        if code and self.failure is None and (not self.training.stopping or self._died_before()):
            self._note(explain_exit(code, self._known(), self.tail, str(self.spec.log_path)))

    def _hear(self, line: str) -> None:
        self.tail.append(line)
        event = parse_line(line)
        if event is not None:
            self._note(self.course.add(event))
        known = recognise(line)
        if known is not None:
            self.known = primary([known] if self.known is None else [self.known, known])

    def _known(self) -> Optional[Failure]:
        """Return the cause that is known: from the ranks, or a disk that takes nothing from the supervisor either just now."""
        refused = self.unwritten or (self.training.output.trouble if self.training is not None else None)
        own = recognise(str(refused), "The supervisor could not write") if refused is not None else None
        return primary([failure for failure in (self.known, own) if failure is not None])

    def _died_before(self) -> bool:
        """Say whether a rank had failed before this node was told to end; torchrun takes its time to notice."""
        return self.known is not None or any(names_error(line) for line in self.tail)

    def _note(self, failure: Optional[Failure]) -> None:
        if failure is not None and self.failure is None:
            self.failure = replace(failure, node=self.spec.name)

    def exit_code(self) -> Optional[int]:
        """Return torchrun's exit status, None while it runs or was never started."""
        return self.training.exit_code() if self.training is not None else None

    def _state(self) -> NodeState:
        return NodeState(
            self.spec.identity,
            exit_code=self.exit_code(),
            ranks_over=self.training is not None and self.training.ranks_over(),
            quiet=self.training is None or self.training.quiet(),
            stop=self.stop_asked,
            failure=self.failure,
            facts=self.course.facts,
        )

    def ask_stop(self, *_: Any) -> None:
        """Handle SIGTERM and SIGINT: the whole run ends, on all nodes."""
        self.stop_asked = True


def hold_lock(spec: Spec, patience: float = 2.0) -> None:
    """Take the lock that says: this node's part of the run is being supervised. It falls with the process, however that ends.

    Who looks whether it is held holds it for a moment itself, hence the patience (seconds).
    """
    path = spec.run_directory / f"supervisor-{spec.node_rank}.lock"
    handle = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    limit = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > limit:
                raise WorkerError(
                    f"{spec.name} is already supervised (lock {path})", "Look at the status, or stop the run first."
                ) from None
        time.sleep(0.1)


def say(text: str) -> None:
    """Print to stderr, which is a file as a rule; where even that takes nothing there is nobody left to tell."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one node's part; 0 for a run that succeeded or was stopped on request, 1 for every other end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=Path, required=True, help="the launch file that module training_job wrote")
    options = parser.parse_args(arguments)
    try:
        spec = read_spec(options.spec)
        hold_lock(spec)
    except WorkerError as error:
        say(f"error: {error.message}\n{error.remedy}")
        return 1
    supervisor = Supervisor(spec)
    signal.signal(signal.SIGTERM, supervisor.ask_stop)
    signal.signal(signal.SIGINT, supervisor.ask_stop)
    job = supervisor.run()
    return 0 if job.state in ("succeeded", "stopped") else 1


if __name__ == "__main__":
    # Threads of torch's store may still wait for a network that is gone; the verdict is on disk.
    code = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
