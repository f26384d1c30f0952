# SPDX-License-Identifier: GPL-3.0-or-later
"""What all of the lab shares: its places on disk, messages, commands, and the error that ends a command."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
# A clone can have a second lab beside its usual one, with the real repositories (docs/rehearsal.md).
REHEARSAL = os.environ.get("LAB_VARIANT", "") == "rehearsal"
SUFFIX = "-rehearsal" if REHEARSAL else ""
STATE = CLONE / f".lab{SUFFIX}"
# Every clone has a lab of its own, so what the engine calls it comes from the place of the clone.
LAB = f"ascend-lab-{hashlib.sha256(f'{CLONE}{SUFFIX}'.encode()).hexdigest()[:6]}"
SITE_PACKAGES = CLONE / f".venv{SUFFIX}" / "lib" / "python3.11" / "site-packages"
_PRINTING = threading.Lock()


class LabError(Exception):
    """The lab cannot go on; the text names the value and the remedy."""


def cache_directory() -> Path:
    """Where results that any clone can use again are kept; made when absent."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "ascend-fleet-lab"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def say(text: str) -> None:
    """Print one whole line at once: several parts of the lab work side by side."""
    with _PRINTING:
        print(f"lab: {text}", flush=True)


@contextmanager
def long_work(text: str, every_s: float = 15.0) -> Iterator[None]:
    """Say what begins, that it still goes on every `every_s` seconds, and how long it took."""
    begun = time.monotonic()
    done = threading.Event()

    def remind() -> None:
        while not done.wait(every_s):
            say(f"{text}: {time.monotonic() - begun:.0f} s so far")

    say(text)
    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield
    finally:
        done.set()
        reminder.join()
    say(f"{text}: done in {time.monotonic() - begun:.0f} s")


@contextmanager
def exclusive() -> Iterator[None]:
    """Let one command at a time change this machine's lab; a second one says that it waits."""
    with (cache_directory() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another lab command to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def attempt(argv: Sequence[str], data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command and hand back whatever came of it."""
    environment = {**os.environ, "LC_ALL": "C", "DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false"}
    try:
        if data is None:
            return subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment, text=False
            )
        return subprocess.run(argv, input=data, capture_output=True, check=False, env=environment, text=False)
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed; run `make setup`") from error


def run(argv: Sequence[str], data: bytes | None = None) -> str:
    """Run a command that has to work; return its output without the last newline."""
    done = attempt(argv, data)
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise LabError(f"`{' '.join(argv)}` ended with status {done.returncode}: {said[-2000:]}")
    return done.stdout.decode(errors="replace").rstrip("\n")


def stream(argv: Sequence[str], each_line: Callable[[str], None]) -> None:
    """Run a long command and hand each of its output lines on while it works; its last lines make the error."""
    last: list[str] = []
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUNBUFFERED": "1", "DOCKER_BUILDKIT": "0"}
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=CLONE
    ) as process:
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            last = [*last[-30:], line]
            each_line(line)
    if process.returncode:
        raise LabError(f"`{' '.join(argv)}` ended with status {process.returncode}:\n" + "\n".join(last))
