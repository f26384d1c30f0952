# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check of NPUs is told to expect, as the modules take it: how many chips, or which; and how long a tool may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, FrozenSet, Optional

from .driver_findings import ERROR, WARNING
from .errors import InputError

_LONGEST = 86400  # seconds; what is longer, endless or no number is a slip

_REMEDY = "Give how many chips there have to be (8), or a list of physical ids, N of /dev/davinciN ([2, 3])."


@dataclass(frozen=True)
class Wanted:
    """What the run needs of this host.

    `chips`: physical ids (empty: every chip there is); `container`: the one that may hold them; `driver`: the oldest version that
    will do (empty: any); `count`: how many chips there have to be (None: any number).
    """

    chips: FrozenSet[int] = frozenset()
    container: str = ""
    driver: str = ""
    count: Optional[int] = None

    def severity(self, phy_id: Optional[int]) -> str:
        """A problem of a chip that the run does not use is a warning."""
        return ERROR if not self.chips or phy_id is None or phy_id in self.chips else WARNING


@dataclass(frozen=True)
class Expected:
    """Physical ids (empty: no particular ones), and how many chips there have to be (None: any number)."""

    chips: FrozenSet[int] = frozenset()
    count: Optional[int] = None


def expected(value: Any) -> Expected:
    """Read `expected_chips`: one number is how many, a list (or numbers with commas) is which; nothing expects nothing."""
    if value is None or value == "" or value == []:
        return Expected()
    if isinstance(value, (int, str)) and "," not in str(value):
        count = _number(value)
        if not count:
            raise InputError(f"expected_chips is {value!r}.", _REMEDY)
        return Expected(count=count)
    numbers = [_number(item) for item in (value.split(",") if isinstance(value, str) else _items(value))]
    if None in numbers:
        raise InputError(f"expected_chips has {value!r}.", _REMEDY)
    return Expected(chips=frozenset(number for number in numbers if number is not None))


def _items(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


def _number(value: Any) -> Optional[int]:
    """Return a whole number that is not negative, else None. True is 1 in Python and no number here."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value).strip()
    return int(text) if text.isdecimal() and len(text) <= 6 else None


def check_timeout(seconds: float, tool: str) -> None:
    """Refuse seconds in which nothing can answer, and those that never end."""
    if not 0 < seconds <= _LONGEST:
        raise InputError(f"timeout is {seconds:g}.", f"Give {tool} some seconds, for example 20.")
