# SPDX-License-Identifier: GPL-3.0-or-later
"""The runs of the real trainer that are kept as test data (tests/data/rehearsal), one for each outcome of training the lab's model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

DIRECTORY = ROOT / "tests" / "data" / "rehearsal"


def with_weights(fingerprint: str) -> dict[str, Any] | None:
    """Return the run that began with these weights; None where the real trainer never had them."""
    path = DIRECTORY / f"{fingerprint}.json"
    return _read(path) if path.is_file() else None


def any_of_them() -> dict[str, Any]:
    """Return a run for what does not depend on the weights: commits, files, lines, learning rates."""
    return _read(min(DIRECTORY.glob("*.json")))


def _read(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts
