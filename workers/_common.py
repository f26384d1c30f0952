# SPDX-License-Identifier: GPL-3.0-or-later
"""What every worker program shares: errors with a remedy, progress, JSON results, files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Value
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NoReturn, Optional, TextIO


class WorkerError(Exception):
    """Something the caller can act on. ``remedy`` says how."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy)  # both, or the error would not survive the way out of a worker process
        self.message = message
        self.remedy = remedy


def warn(message: str) -> None:
    """Print a warning line to stderr; the result carries the same text."""
    print(json.dumps({"warning": message}, ensure_ascii=False), file=sys.stderr, flush=True)


PROGRESS_FILE = "FLEET_PROGRESS"  # environment variable: a file that always holds the latest progress line


class Progress:
    """Counts finished units over all processes of a run and prints JSON lines to stderr, at most one a second.

    Create it before worker processes are forked: the counter is shared with them. Who cannot read stderr while the work goes on names
    a file in the environment.
    """

    def __init__(self, total: int, unit: str, interval: float = 1.0) -> None:
        self.total = total
        self.unit = unit
        self.interval = interval
        self._done = Value("q", 0)
        self._printed = Value("d", 0.0)
        self._start = time.monotonic()

    def advance(self, amount: int) -> None:
        now = time.monotonic()
        with self._done.get_lock():
            self._done.value += amount
            done = self._done.value
            if now - self._printed.value < self.interval and done < self.total:
                return
            self._printed.value = now
        self._print(done, now)

    def _print(self, done: int, now: float) -> None:
        rate = done / max(now - self._start, 1e-6)
        line = {
            "progress": round(done / self.total, 4) if self.total else 1.0,
            "done": done,
            "total": self.total,
            "unit": self.unit,
            "rate": round(rate, 1),
            "eta_s": round(max(self.total - done, 0) / rate, 1) if rate else None,
        }
        # One write call: lines of several processes must not mix.
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()
        latest = os.environ.get(PROGRESS_FILE)
        if latest:
            temporary = f"{latest}.{os.getpid()}"
            Path(temporary).write_text(json.dumps(line) + "\n", encoding="ascii")
            os.replace(temporary, latest)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path``; it becomes ``path`` only when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        if temporary.exists():
            temporary.unlink()


def sync_directory(path: Path) -> None:
    """Make renames inside ``path`` durable."""
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_directory(path: Path, what: str) -> Path:
    if not path.is_dir():
        raise WorkerError(f"{what} {path} is not a directory", "Give the directory that holds it.")
    return path


# In an output directory while it is written to, and locked: left by a run that was killed, it says that nothing there is whole.
UNFINISHED = ".unfinished"


def require_empty_output(path: Path) -> None:
    """Refuse an output directory that already holds something: an old result is never overwritten. What a killed run left is
    cleared away."""
    if path.exists() and not path.is_dir():
        raise WorkerError(f"output {path} exists and is not a directory", "Give a directory that does not exist yet.")
    if (path / UNFINISHED).is_file():
        with (path / UNFINISHED).open("a") as mark:
            _lock(mark, path)
            _clear(path)
    if path.is_dir() and any(path.iterdir()):
        raise WorkerError(f"output {path} is not empty", "Give a new directory, or remove what an earlier run left.")


def _lock(mark: TextIO, path: Path) -> None:
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkerError(
            f"output {path} is being written to by another run", "Wait for it, or give another directory."
        ) from None


def _clear(path: Path) -> None:
    """Empty a directory; the mark goes last, so that a run that is killed here leaves it."""
    for entry in sorted(path.iterdir(), key=lambda entry: entry.name == UNFINISHED):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(str(entry), ignore_errors=True)
        else:
            entry.unlink()


def require_space(path: Path, needed: int) -> None:
    """Refuse when the file system that will hold ``path`` has less than ``needed`` bytes (and 1 % for metadata)."""
    place = path
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(str(place)).free
    if free < needed * 1.01:
        raise WorkerError(
            f"{place} has {free / 2**20:.1f} MiB free, the output {path} needs {needed / 2**20:.1f} MiB",
            "Free some space, or choose another place.",
        )


@contextlib.contextmanager
def full_disk_named(place: Path) -> Iterator[None]:
    """Say of a disk that became full meanwhile where it is: the error of a write names no file."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise WorkerError(
            f"{place} became full while it was written to: {error.strerror}",
            "Free some space, or choose another place; what was written is removed.",
        ) from error


@contextlib.contextmanager
def output_directory(path: Path) -> Iterator[None]:
    """Make ``path`` and remove what a failed run put there, so that a second run starts clean, also after one that was killed."""
    existed = path.exists()
    path.mkdir(parents=True, exist_ok=True)
    with (path / UNFINISHED).open("a") as mark:
        _lock(mark, path)
        try:
            with full_disk_named(path):
                yield
            (path / UNFINISHED).unlink()
        except BaseException:
            _clear(path)
            if not existed:
                path.rmdir()
            raise


def end_with_parent(parent: int) -> None:
    """First act of a worker process: end when ``parent`` does, even if that is killed. It would wait for work for ever."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def forked_pool(workers: int) -> ProcessPoolExecutor:
    """Processes that inherit what is in memory here instead of receiving a copy."""
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent, initargs=(os.getpid(),))


POINTER = b"version https://git-lfs"  # the start of what git leaves in place of a large file


def read_json(path: Path, what: str) -> Any:
    """Load a JSON file; errors name the file and the line."""
    try:
        raw = path.read_bytes()
        if raw.startswith(POINTER):
            raise WorkerError(
                f"{what} {path} is a git-lfs pointer",
                "Run `git lfs pull` where the model comes from, and copy it again.",
            )
        return json.loads(raw.decode("utf-8"))
    except FileNotFoundError:
        raise WorkerError(f"{what} {path} does not exist", "Copy the complete model directory.") from None
    except UnicodeDecodeError as error:
        raise WorkerError(f"{what} {path} is not UTF-8: {error}", "Copy the file again.") from None
    except json.JSONDecodeError as error:
        raise WorkerError(f"{what} {path} is not JSON: {error}", "Copy the file again.") from None


def printable(text: str) -> str:
    """The text with half surrogates, which names and JSON may hold and no encoding takes, written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _stop(signum: int, _frame: Any) -> NoReturn:
    raise SystemExit(128 + signum)


def run(
    work: Callable[[], Dict[str, Any]], as_json: bool, show: Optional[Callable[[Dict[str, Any]], str]] = None
) -> int:
    """Main boundary of a program: run ``work``, print its result or its error, return the exit code.

    With ``as_json`` the last line on stdout is one JSON object, for an error ``{"error": ..., "remedy": ...}``.
    SIGTERM ends the work like an error, so that half-made outputs are removed.
    """
    signal.signal(signal.SIGTERM, _stop)
    started = time.monotonic()
    try:
        result = work()
    except WorkerError as error:
        _print_error(error.message, error.remedy, as_json)
        return 1
    except OSError as error:
        _print_error(f"{type(error).__name__}: {error}", "Check the path, its permissions and the free space.", as_json)
        return 1
    except Exception as error:  # noqa: BLE001 - the boundary of the process: a caller needs JSON whatever happens
        traceback.print_exc()
        _print_error(f"{type(error).__name__}: {error}", "This is a defect: report it with the traceback.", as_json)
        return 1
    result["seconds"] = round(time.monotonic() - started, 3)
    print(json.dumps(result) if as_json or show is None else printable(show(result)), flush=True)
    return 0


def _print_error(message: str, remedy: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": printable(message), "remedy": printable(remedy)}), flush=True)
    else:
        print(printable(f"error: {message}\n{remedy}"), file=sys.stderr, flush=True)
