# SPDX-License-Identifier: GPL-3.0-or-later
"""One call of npu-smi, and what it means that a call left no answer. No judgement here: that is npu_answers.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

from .errors import CommandError, last_lines
from .host import Host

WORKERS = 8  # questions to npu-smi at a time: it is slow, and the driver answers them side by side

# What a version says that does not know a query, or a chip for which there is none. That is no answer and no fault either.
_UNKNOWN_QUERY = re.compile(
    r"command or option is not found|error parameter of -\w|\busage:|(?:not|n't) support|unsupported|unrecognized|invalid option",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ToolRun:
    """One call of npu-smi. `failure` is set instead of an answer: missing, or no_answer."""

    argv: Tuple[str, ...]
    rc: Optional[int] = None
    text: str = ""
    failure: str = ""
    message: str = ""


@dataclass(frozen=True)
class Unanswered:
    """A query that left nothing to read. `kind`: health, ecc, map, ...; `place`: (NPU, chip), None for one about the whole host."""

    kind: str
    place: Optional[Tuple[int, int]]
    hangs: bool
    said: str


def ask(host: Host, argv: Sequence[str], timeout: float) -> ToolRun:
    """Call npu-smi. Its errors come on standard output, with an exit status that is cut to a byte."""
    try:
        done = host.run(argv, check=False, timeout=timeout)
    except CommandError as error:
        return ToolRun(tuple(argv), failure="no_answer", message=error.message)
    return ToolRun(tuple(argv), done.rc, "\n".join(part for part in (done.stdout, done.stderr) if part.strip()))


def unanswered(run: ToolRun, kind: str, place: Optional[Tuple[int, int]]) -> Optional[Unanswered]:
    """Describe a call whose answer could not be read; None where the tool does not know the query."""
    if run.failure:
        return Unanswered(kind, place, True, run.message)
    if _UNKNOWN_QUERY.search(run.text):
        return None
    said = last_lines(run.text, 2)[:160]
    return Unanswered(kind, place, False, f"`{' '.join(run.argv)}` says {said!r} (status {run.rc})")
