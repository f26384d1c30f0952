# SPDX-License-Identifier: GPL-3.0-or-later
"""The one result shape of every module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List


@dataclass
class Outcome:
    """What a module reports: whether something changed (or would), the difference, the steps, and its own return values."""

    changed: bool = False
    before: Any = ""
    after: Any = ""
    actions: List[str] = field(default_factory=list)
    values: Dict[str, Any] = field(default_factory=dict)

    def as_result(self) -> Dict[str, Any]:
        """Return the keyword arguments of exit_json. `diff` is there only when there is a difference to show."""
        result: Dict[str, Any] = {"changed": self.changed, "actions": self.actions, **self.values}
        if self.before != self.after:
            result["diff"] = {"before": self.before, "after": self.after}
        return result
