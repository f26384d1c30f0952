# SPDX-License-Identifier: GPL-3.0-or-later
"""Clones of the three upstream repositories for tests against the real thing, where the person who runs the tests names them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import ROOT

VARIABLE = "ASCEND_FLEET_UPSTREAM"
CLONES = os.environ.get(VARIABLE, "")
REASON = f"{VARIABLE} names no directory with clones of the three upstream repositories (docs/rehearsal.md)"
needed = pytest.mark.skipif(not CLONES, reason=REASON)

# What upstream's own programs need; `scripts/setup rehearsal`, which `make rehearse` runs, makes it.
PYTHON = ROOT / ".venv-rehearsal" / "bin" / "python"
runnable = pytest.mark.skipif(
    not PYTHON.exists(), reason="no environment for upstream's programs (python3 scripts/setup rehearsal)"
)


def clones() -> Path:
    """Return the directory of the clones."""
    return Path(CLONES)
