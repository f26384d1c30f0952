# SPDX-License-Identifier: GPL-3.0-or-later
"""The training processes of one node: started, listened to, ended to the last one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from _supervise_output import Output
from _supervise_spec import Spec

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def command(spec: Spec) -> List[str]:
    """Return the argument list of torchrun for this node."""
    return [sys.executable, "-m", "torch.distributed.run", *spec.launcher, spec.script, *spec.arguments]


class Training:
    """torchrun and all that it starts. Its output goes to the log and, line by line, to `lines`."""

    def __init__(self, spec: Spec) -> None:
        self.output = Output(spec.log_path)
        self._lines: queue.Queue[str] = queue.Queue()
        self._stop_asked: Optional[float] = None
        self._had_ranks = False
        self._grace = spec.timing.grace
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what torchrun leaves behind comes to us, where it can be found and ended
        self._process = self._start(spec)
        self._reader = threading.Thread(target=self._read, name="log", daemon=True)
        self._reader.start()

    def _start(self, spec: Spec) -> subprocess.Popen[bytes]:
        # Without PYTHONUNBUFFERED the lines of a rank arrive in blocks of 8 kB, minutes late.
        environment: Dict[str, str] = {**os.environ, **spec.environment, "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            command(spec),
            cwd=spec.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )

    @property
    def pid(self) -> int:
        """Process id of torchrun, as the container counts."""
        return self._process.pid

    @property
    def stopping(self) -> bool:
        """Whether the training was told to end."""
        return self._stop_asked is not None

    def lines(self) -> Iterator[str]:
        """Yield the lines that have come since the last call."""
        while True:
            try:
                yield self._lines.get_nowait()
            except queue.Empty:
                return

    def exit_code(self) -> Optional[int]:
        """Return torchrun's exit status once it ended and all of its output is read; -N for signal N."""
        code = self._process.poll()
        if code is None:
            return None
        if not descendants(os.getpid()):
            self._reader.join(timeout=5.0)
        return code

    def ranks_over(self) -> bool:
        """Say whether the ranks of this node are gone. torchrun outlives them: it waits minutes for the other nodes."""
        if self._process.poll() is not None:
            return True
        alive = bool(descendants(self._process.pid))
        self._had_ranks = self._had_ranks or alive
        return self._had_ranks and not alive

    def quiet(self) -> bool:
        """Say whether nothing of the training runs any more."""
        return self._process.poll() is not None and not descendants(os.getpid())

    def stop(self) -> None:
        """Ask for the end; called again and again until quiet. First SIGTERM, after the grace SIGKILL to what is left."""
        now = time.monotonic()
        if self._stop_asked is None:
            self._stop_asked = now
            self._signal_group(signal.SIGTERM)
            if self._process.poll() is not None:
                _signal_all(signal.SIGTERM)
        elif now - self._stop_asked > self._grace:
            _signal_all(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _read(self) -> None:
        """Take in what the ranks say until they end: they would wait for ever on a pipe that nobody empties."""
        said = self._process.stdout
        assert said is not None
        for line in iter(said.readline, b""):
            self._lines.put(line.decode("utf-8", errors="replace").rstrip("\n"))
            self.output.write(line)
        self.output.close()


def descendants(ancestor: int) -> List[int]:
    """Return the process ids below `ancestor` that have not ended."""
    children: Dict[int, List[int]] = {}
    for pid, parent in _processes():
        children.setdefault(parent, []).append(pid)
    found: List[int] = []
    waiting = list(children.get(ancestor, []))
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def _processes() -> Iterator[Tuple[int, int]]:
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The program's name is in brackets and may hold anything: what counts comes after the last one.
            state, parent = (
                Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
            )
            if state not in "ZX":
                yield int(name), int(parent)


def _signal_all(number: signal.Signals) -> None:
    for pid in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _die_with_parent() -> None:
    """In the child: get SIGTERM when the supervisor dies, so that no training goes on unwatched."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
