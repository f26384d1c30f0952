# SPDX-License-Identifier: GPL-3.0-or-later
"""What a finished training run left on a lab's hosts, as small facts that two trainers can be compared by.

Taken from a rehearsal they are the test data tests/data/rehearsal; taken from the usual lab they are what its stand-in does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

OnHost = Callable[..., str]
_ITERATION = re.compile(
    r" iteration +(?P<number>\d+)/.* learning rate: (?P<rate>\S+) .* lm loss: (?P<loss>\S+) .* grad norm: (?P<norm>\S+) "
)
# What torch, its launcher and compilers print, the trainer's list of its arguments, and whether the samples' order was there already.
_NOISE = re.compile(
    r"^\[W|^E\d|^frame #|^Exception raised|^\*{5}|^Setting OMP_|Warning: |custom_[fb]wd$|^  (return func|super\(\))|^torch_npu: "
    r"|^make: |^g\+\+ |^In file |^In .*function|^ +inlined from|helpers\.cpp|pybind11|^ +\d* +\||^ *\w+ \.{3,} |^\t|^\s*$"
    r"|gpt_dataset:(Build and save|\t?Load the|> total number of epochs)"
)
_PLACES = (
    (re.compile(r"/data/\S+"), "PATH"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"\b[0-9a-f]{32}-"), "HASH-"),
    (re.compile(r" +-?\d+\b(?![.\d])"), " N"),
    (re.compile(r"-?\d+\.\d+(E[+-]\d\d)?"), "F"),
    (re.compile(r"\d+"), "N"),
    (re.compile(r"Config\(.*\)$"), "Config(...)"),
)
_REPEATED = re.compile(r"(.{12,}?)\1+")  # ranks that write at the same time can share a line


def shape(line: str) -> str:
    """A line of a log with its numbers, times and paths taken out."""
    for pattern, name in _PLACES:
        line = pattern.sub(name, line)
    repeated = _REPEATED.fullmatch(line)
    return (repeated[1] if repeated else line).rstrip()


def shapes(log: str) -> list[str]:
    """The different lines of a trainer's log by their shape, in the order of their first appearance."""
    return list(dict.fromkeys(shape(line) for line in log.splitlines() if not _NOISE.search(line)))


def unknown(lines: Iterable[str], known: Iterable[str]) -> list[str]:
    """Those of the lines (shapes) that are neither known nor several known ones in a row: ranks write into one log at the same time."""
    parts = "|".join(re.escape(line.strip()) for line in sorted(known, key=len, reverse=True))
    several = re.compile(rf"(?:\s*(?:{parts}))+\s*")
    return [line for line in lines if not several.fullmatch(line)]


def curve(log: str) -> dict[str, list[float]]:
    """Of each logged iteration its number, learning rate, loss (nats per token) and norm of all gradients."""
    found = [match for match in map(_ITERATION.search, log.splitlines()) if match]
    return {name: [float(match[name]) for match in found] for name in ("number", "rate", "loss", "norm")}


def gather(on_host: OnHost, hosts: Iterable[str], work_root: str) -> dict[str, Any]:
    """Read the facts of the run in use: what it was made of, its curve, and for each host its lines and what it saved."""
    run = f"{work_root}/run/current"
    logs = {host: on_host(host, "cat", f"{run}/logs/node-{rank}.log") for rank, host in enumerate(hosts)}
    saved = {
        host: sorted(on_host(host, "find", f"{run}/checkpoints", "-type", "f", "-printf", "%P\n").split())
        for host in logs
    }
    return {
        "curve": curve(list(logs.values())[-1]),
        "saved": saved,
        "lines": {host: shapes(log) for host, log in logs.items()},
    }
