# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check found: one shape for everything that npu_info, hccn_info and the comparison of the fleet have to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

ERROR = "error"  # the run cannot start, or comes out wrong
WARNING = "warning"  # worth a person's time, does not stop this run
INFO = "info"

SEVERITIES = (ERROR, WARNING, INFO)  # worst first


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing.

    `code` is stable and for programs (`chip.health`), `chip` the physical id it concerns or None, `message` names the value,
    `remedy` says what to do.
    """

    code: str
    severity: str
    message: str
    remedy: str
    chip: Optional[int] = None

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data for the module's result."""
        return {
            "code": self.code,
            "severity": self.severity,
            "chip": self.chip,
            "message": self.message,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class Cause:
    """One possible reason for a text that has several: what it is, how to tell it from the others, what to do."""

    cause: str
    tell: str
    remedy: str

    def as_dict(self) -> Dict[str, str]:
        """Return plain data for the module's result."""
        return {"cause": self.cause, "tell": self.tell, "remedy": self.remedy}


def worst_first(findings: Sequence[Finding]) -> List[Finding]:
    """Sort by severity, then by chip, keeping the order of discovery within both."""
    return sorted(findings, key=lambda item: (SEVERITIES.index(item.severity), -1 if item.chip is None else item.chip))


def as_dicts(findings: Sequence[Finding]) -> List[Dict[str, Any]]:
    """Return findings as plain data, worst first, each only once."""
    return [item.as_dict() for item in worst_first(list(dict.fromkeys(findings)))]


def has_errors(findings: Sequence[Finding]) -> bool:
    """Say whether anything found stops a run."""
    return any(item.severity == ERROR for item in findings)
