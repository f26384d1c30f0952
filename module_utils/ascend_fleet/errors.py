# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception tree. Library code raises; only the module boundary (entry.py) catches."""

from __future__ import annotations

import errno
from typing import Any, Dict, List, Optional, Sequence

LONGEST_COMMAND = 200  # characters of a command line in a message


class FleetError(Exception):
    """Something the person at the keyboard has to know: what is wrong, with its value, and what to do about it."""

    def __init__(self, message: str, remedy: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details

    def as_result(self) -> Dict[str, Any]:
        """Return the keyword arguments of fail_json: msg, remedy and whatever details the error carries."""
        text = f"{self.message} Remedy: {self.remedy}" if self.remedy else self.message
        return {"msg": text, "problem": self.message, "remedy": self.remedy, **self.details}


class InputError(FleetError):
    """A value that a person gave cannot be used. Nothing was touched."""


class RefusedError(FleetError):
    """What was asked for would lose work or cannot come out right. Nothing was touched."""


class VerificationError(FleetError):
    """Work was done and its result is not what it has to be. The result was not put in place."""


class UnparsedError(FleetError):
    """A tool answered in a form that is not known."""


class CommandError(FleetError):
    """A command could not be started, ran too long or ended in failure."""

    def __init__(
        self, argv: Sequence[str], rc: Optional[int], stdout: str, stderr: str, why: str = "", remedy: str = ""
    ) -> None:
        what = why or f"ended with status {rc}"
        said = last_lines(stderr) or last_lines(stdout)
        message = f"`{_shortened(' '.join(argv))}` {what}" + (f": {said}" if said else ".")
        super().__init__(message, remedy, argv=list(argv), rc=rc, stdout=stdout[-4000:], stderr=stderr[-4000:])
        self.argv = list(argv)
        self.rc = rc


def _shortened(command: str) -> str:
    """Return the beginning of a long command line; the result has all of it."""
    return command if len(command) <= LONGEST_COMMAND else f"{command[:LONGEST_COMMAND].rpartition(' ')[0]} ..."


class ProblemsError(FleetError):
    """Several things are wrong; all of them are named at once."""

    def __init__(self, problems: List[str], remedy: str = "", **details: Any) -> None:
        super().__init__("; ".join(problems), remedy, problems=problems, **details)


def system_error(error: OSError) -> FleetError:
    """Return what the system refused a module as an error with the path, the reason and a remedy."""
    place = f"{error.filename}: " if error.filename else ""
    remedy = _SYSTEM_REMEDIES.get(error.errno or 0, "Look at the path, its file system and its owner.")
    return FleetError(f"{place}{error.strerror or error}.", remedy, errno=error.errno)


_SYSTEM_REMEDIES = {
    errno.ENOSPC: "Make room on that file system (df -h, df -i), or give another ascend_work_root, and run again.",
    errno.EDQUOT: "Have the quota of this user raised, or give another ascend_work_root, and run again.",
    errno.EROFS: "The file system is mounted read-only: look at dmesg, or give another ascend_work_root.",
    errno.EACCES: "Give the login access to that path, or set ansible_become: true.",
    errno.EPERM: "Give the login access to that path, or set ansible_become: true.",
    errno.EIO: "The disk or its network failed: look at dmesg before anything is written there again.",
}


def last_lines(text: str, count: int = 6) -> str:
    """Return the last non-blank lines of a tool's output: the part that usually says why."""
    return "\n".join([line for line in text.strip().splitlines() if line.strip()][-count:])
