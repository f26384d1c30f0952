# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan finds wrong or doubtful. Everything is collected first, so that one report names all of it."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional, Sequence

# The largest number in a recipe or a config.json: more is a slip of the pen, and takes for ever to divide.
LARGEST = 2**32 - 1


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (a refusal) or doubtful (a warning): what, with its value; the nearest that works; what to do."""

    code: str
    what: str
    nearest: str = ""
    remedy: str = ""

    @property
    def text(self) -> str:
        """The finding as one readable line."""
        nearest = f" Nearest that works: {self.nearest}." if self.nearest else ""
        return f"{self.what}{nearest}" + (f" {self.remedy}" if self.remedy else "")

    def as_dict(self) -> Dict[str, str]:
        """Return plain data for JSON."""
        return {"code": self.code, "what": self.what, "nearest": self.nearest, "remedy": self.remedy}


@dataclass
class Findings:
    """The refusals and warnings of one plan. Refused: upstream cannot start or computes something else; the rest warns."""

    refusals: List[Finding] = field(default_factory=list)
    warnings: List[Finding] = field(default_factory=list)

    def refuse(self, code: str, what: str, nearest: str = "", remedy: str = "") -> None:
        """Note something that makes the run impossible or wrong."""
        self.refusals.append(Finding(code, what, nearest, remedy))

    def warn(self, code: str, what: str, remedy: str = "") -> None:
        """Note something that the person should know and may want."""
        self.warnings.append(Finding(code, what, remedy=remedy))


def as_int(value: Any) -> Optional[int]:
    """Return an integer that was given as one or as its digits (templates may turn numbers into text), else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    text = str(value).strip()
    return int(text) if re.fullmatch("-?[0-9]{1,20}", text) else None


def around(value: int, working: Iterable[int]) -> List[int]:
    """Return the largest working number below a value and the smallest above it."""
    numbers = sorted(set(working))
    below = [number for number in numbers if number < value][-1:]
    above = [number for number in numbers if number > value][:1]
    return below + above


def multiples_around(value: int, step: int) -> List[int]:
    """Return the positive multiples of `step` next to a value that is not one."""
    below = value // step * step
    return [number for number in (below, below + step) if number > 0]


def divisors(number: int) -> List[int]:
    """Return all divisors of a positive number in their order."""
    small = [candidate for candidate in range(1, int(number**0.5) + 1) if number % candidate == 0]
    return sorted({*small, *(number // candidate for candidate in small)})


def counted(number: int, noun: str) -> str:
    """Return a number of things as a person writes it: `1 host`, `2 hosts`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def either(values: Sequence[Any]) -> str:
    """Return values as a person lists alternatives: `2 or 4`."""
    return " or ".join(str(value) for value in values)


def closest(name: str, known: Iterable[str]) -> str:
    """Return the known name that a mistyped one most likely meant, or all of them where none is near."""
    names = sorted(known)
    longer = [each for each in names if each.startswith(str(name))]
    if len(longer) == 1:
        return longer[0]  # 2.0 means 2.0.0, to which 2.3.0 is as near by its letters
    return either(difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)) or ", ".join(names)
