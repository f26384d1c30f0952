# SPDX-License-Identifier: GPL-3.0-or-later
"""What single lines of a training log say. Pure: a line in, an event (or nothing) out.

The lines are those of Megatron-LM core_r0.8.0. Only the last rank prints the iteration line, and only rank 0 prints what was loaded,
so on several hosts no single log tells everything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Optional, Union


@dataclass(frozen=True)
class Iteration:
    """One logged iteration. `loss` is None where the line carries none, which Megatron does for NaN and for skipped iterations."""

    iteration: int
    iterations: int
    loss: Optional[float]
    ms: Optional[float]
    skipped: int
    nans: int


@dataclass(frozen=True)
class Loaded:
    """A checkpoint was loaded; `iteration` is the one that training goes on from."""

    directory: str
    iteration: int


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written completely, as far as rank 0 knows."""

    directory: str
    iteration: int


@dataclass(frozen=True)
class NotLoaded:
    """Training said that it could not load its checkpoint. It goes on with random weights or ends with status 0."""

    text: str


Event = Union[Iteration, Loaded, Saved, NotLoaded]

_ITERATION = re.compile(r"\biteration\s+(\d+)\s*/\s*(\d+)\s*\|")
_LOADED = re.compile(r"successfully loaded checkpoint from (\S+)(?:\s*\[[^\]]*\])?\s+at iteration\s+(\d+)")
_SAVED = re.compile(r"successfully saved checkpoint (?:from|at) iteration\s+(\d+) to (\S+)")
_NOT_LOADED = (
    "could not find the metadata file",
    "will not load any checkpoints and will start from",
    "could not load the checkpoint",
    "Invalid metadata file",
    "A metadata file exists but unable to load",
    "Unable to load optimizer from checkpoint",
    "Unable to load rng state from checkpoint",
)


def parse_line(line: str) -> Optional[Event]:
    """Return what a line of a training log says, None for the many that say nothing about the course of the run."""
    found = _ITERATION.search(line)
    if found:
        return _iteration(int(found.group(1)), int(found.group(2)), line[found.end() :])
    loaded = _LOADED.search(line)
    if loaded:
        return Loaded(loaded.group(1), int(loaded.group(2)))
    saved = _SAVED.search(line)
    if saved:
        return Saved(saved.group(2), int(saved.group(1)))
    if any(text in line for text in _NOT_LOADED):
        return NotLoaded(line.strip())
    return None


def _iteration(iteration: int, iterations: int, rest: str) -> Iteration:
    fields = _fields(rest)
    return Iteration(
        iteration,
        iterations,
        fields.get("lm loss"),
        fields.get("elapsed time per iteration (ms)"),
        int(fields.get("number of skipped iterations", 0)),
        int(fields.get("number of nan iterations", 0)),
    )


def _fields(text: str) -> Dict[str, float]:
    """Return the numbers of `name: number | name: number |`; what is not a number is left out."""
    fields: Dict[str, float] = {}
    for part in text.split("|"):
        name, _, value = part.rpartition(":")
        try:
            fields[name.strip().lower()] = float(value)
        except ValueError:
            continue
    return fields
