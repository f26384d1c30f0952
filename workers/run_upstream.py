# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a script of the pinned MindSpeed-LLM tree under a watchdog, with its output in a log.

    python run_upstream.py --cwd TREE --log FILE --watch DIR [--stall 180] [--expect-bytes N] --script convert_ckpt.py -- ARGUMENTS

The script is ended when none of its processes computes, reads or writes any more: upstream's converter waits for ever once its saving
process has died. An exit status of 0 is reported and proves nothing; the caller looks at what was made.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from _common import Progress, WorkerError, require_directory, run

POLL = 0.5  # seconds
IDLE_SHARE = 0.02  # of one processor: interpreters that only wait use less
IDLE_BYTES = 1 << 20
TAIL = 1500  # characters of the log in an error


@dataclass(frozen=True)
class Activity:
    """What the processes of a session have done so far: seconds of processor time, bytes read and written."""

    cpu: float
    moved: int

    def idle_since(self, before: Activity, seconds: float) -> bool:
        return self.cpu - before.cpu < IDLE_SHARE * seconds and self.moved - before.moved < IDLE_BYTES


def session_members(session: int) -> Iterator[int]:
    """Process ids of a session; a process that ended meanwhile is left out."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int(_fields(int(entry.name))[3]) == session:
                    yield int(entry.name)


def _fields(pid: int) -> List[str]:
    """The fields of /proc/PID/stat from the state on; the command before it may hold any character."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def activity(session: int) -> Activity:
    """Sum over the session. Time of children that were waited for is part of their parent's."""
    ticks, moved = 0, 0
    for pid in session_members(session):
        with contextlib.suppress(OSError, ValueError):
            ticks += sum(int(field) for field in _fields(pid)[11:15])
            lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
            moved += int(lines["rchar"]) + int(lines["wchar"])
    return Activity(ticks / os.sysconf("SC_CLK_TCK"), moved)


def size_of(directory: Path) -> int:
    """Bytes of all files below a directory that somebody else is writing to."""
    total = 0
    for folder, _, names in os.walk(str(directory)):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


class Watch:
    """Shows how much was written, and says when nothing happens any more."""

    def __init__(self, session: int, directory: Path, expect: int, stall: float) -> None:
        self.session = session
        self.directory = directory
        self.stall = stall
        self._progress = Progress(expect, "bytes")
        self._expect = expect
        self._written = 0
        self._before = activity(session)
        self._since = time.monotonic()

    def stalled(self) -> bool:
        """Look once."""
        written = size_of(self.directory)
        if self._expect:  # an estimate: what turns out larger is not shown as more than all
            written = min(written, self._expect)
        if written > self._written:
            self._progress.advance(written - self._written)
            self._written = written
        passed = time.monotonic() - self._since
        if passed < self.stall:
            return False
        now = activity(self.session)
        idle = now.idle_since(self._before, passed)
        self._before, self._since = now, time.monotonic()
        return idle


def supervise(options: argparse.Namespace) -> Dict[str, Any]:
    """Run the script to its end; a stall, and a status other than 0, is an error that quotes the log."""
    require_directory(options.cwd, "source tree")
    if not (options.cwd / options.script).is_file():
        raise WorkerError(
            f"{options.cwd / options.script} does not exist", "Check out the pinned release: --tags source."
        )
    argv = [sys.executable, options.script, *options.arguments]
    started = time.monotonic()
    with options.log.open("wb") as log:
        process = subprocess.Popen(
            argv, cwd=str(options.cwd), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            watch = Watch(process.pid, options.watch, options.expect_bytes, options.stall)
            while process.poll() is None:
                if watch.stalled():
                    raise WorkerError(
                        f"{options.script} did nothing for {options.stall:g} s and was ended: {_tail(options.log)}",
                        "Most often its saving process died: look for its error above. The native engine has no such process.",
                    )
                time.sleep(POLL)
        finally:
            _end(process)
    if process.returncode:
        raise WorkerError(
            f"{options.script} ended with status {process.returncode}: {_tail(options.log)}", "Correct what it names."
        )
    return {
        "status": process.returncode,
        "script_seconds": round(time.monotonic() - started, 1),
        "log": _tail(options.log),
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the session: also a saver that outlived its loader."""
    for pid in list(session_members(process.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    return log.read_bytes()[-TAIL:].decode("utf-8", "replace").strip()


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("--cwd", type=Path, required=True, metavar="TREE", help="the MindSpeed-LLM checkout")
    top.add_argument("--script", required=True, help="path of the script in it")
    top.add_argument("--log", type=Path, required=True, metavar="FILE", help="gets what the script prints")
    top.add_argument("--watch", type=Path, required=True, metavar="DIR", help="where the script writes")
    top.add_argument("--expect-bytes", type=int, default=0, metavar="N", help="about so many, for the progress")
    top.add_argument(
        "--stall", type=float, default=180.0, metavar="SECONDS", help="end it after so long without a sign"
    )
    top.add_argument("--json", action="store_true", help="the last line of output is one JSON object")
    top.add_argument("arguments", nargs="*", help="handed to the script, after --")
    return top


def main(arguments: Optional[List[str]] = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    # `call_worker` puts --json at the end, where it would be the script's.
    as_json = "--json" in given
    options = parser().parse_args([word for word in given if word != "--json"])
    return run(lambda: supervise(options), as_json)


if __name__ == "__main__":
    sys.exit(main())
