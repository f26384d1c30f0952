# SPDX-License-Identifier: GPL-3.0-or-later
"""What the supervisor of a host says about its part of a run: launch file, status file, lock. And the same in words."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional

from .host import Host

STOP_FILE = "stop"
ALIVE = ("starting", "running", "ending")
OVER = ("succeeded", "failed", "stopped", "crashed")


@dataclass(frozen=True)
class Part:
    """One host's part of a run, as its files tell.

    `state`: absent (never started here), starting, running, ending, succeeded, failed, stopped, or crashed: the supervisor is gone
    without a verdict, as after a power failure.
    """

    state: str
    alive: bool = False
    launch: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def attempt(self) -> int:
        """Number of starts so far."""
        return int(self.launch.get("attempt", 0))

    @property
    def start(self) -> int:
        """Iteration that the last start went on from."""
        return int(self.launch.get("expect", {}).get("start", 0))

    def summary(self) -> Dict[str, Any]:
        """Return the status without the loss curve."""
        return {key: value for key, value in self.status.items() if key != "losses"}


def launch_path(directory: str, rank: int) -> str:
    """Return the path of a node's launch file."""
    return os.path.join(directory, f"launch-{rank}.json")


def supervisor_log(directory: str, rank: int) -> str:
    """Return the path of what a supervisor itself prints."""
    return os.path.join(directory, "logs", f"supervisor-{rank}.log")


def node_log(directory: str, rank: int) -> str:
    """Return the path of the output of a node's ranks."""
    return os.path.join(directory, "logs", f"node-{rank}.log")


def read_part(host: Host, directory: str, rank: int) -> Part:
    """Read what is known about a node's part of a run."""
    launch = read_json(host, launch_path(directory, rank))
    if not launch:
        return Part("absent")
    alive = is_locked(os.path.join(directory, f"supervisor-{rank}.lock"))
    status = read_json(host, os.path.join(directory, f"status-{rank}.json"))
    if status.get("attempt") != launch.get("attempt"):  # what an earlier attempt left
        return Part("starting" if alive else "crashed", alive, launch)
    if status.get("final"):
        return Part(str(status["state"]), alive, launch, status)
    return Part(str(status["state"]) if alive else "crashed", alive, launch, status)


def read_json(host: Host, path: str) -> Dict[str, Any]:
    """Return the object in a JSON file; empty where there is none."""
    try:
        data = json.loads(host.read_text(path) or "{}")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def is_locked(path: str) -> bool:
    """Say whether a living process holds the lock; the kernel knows it across containers, unlike process ids."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def in_words(status: Mapping[str, Any]) -> str:
    """Return one line about how far a run is."""
    iteration, iterations = status.get("iteration"), status.get("iterations")
    state = str(status.get("state", "absent"))
    if iteration is None:
        return state if not status.get("reason") else f"{state}: {status['reason']}"
    parts = [f"{state}: iteration {iteration} of {iterations}"]
    if status.get("loss") is not None:
        parts.append(f"loss {status['loss']:.4f}")
    if status.get("ms_per_iteration"):
        parts.append(f"{status['ms_per_iteration'] / 1000:.2f} s an iteration")
    left = seconds_left(status)
    if state == "running" and left is not None:
        parts.append(f"about {duration(left)} left")
    return ", ".join(parts)


def seconds_left(status: Mapping[str, Any]) -> Optional[float]:
    """Return how long the rest takes at the present pace, in seconds."""
    iteration, iterations, pace = (status.get(key) for key in ("iteration", "iterations", "ms_per_iteration"))
    if iteration is None or iterations is None or not pace:
        return None
    return max(int(iterations) - int(iteration), 0) * float(pace) / 1000


def duration(seconds: float) -> str:
    """Return a span of time in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
