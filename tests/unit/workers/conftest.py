# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the worker programs importable and their golden data known."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "workers"))


@pytest.fixture(scope="session")
def golden() -> Path:
    return REPOSITORY / "tests" / "data" / "golden"


@pytest.fixture(scope="session")
def workers() -> Path:
    return REPOSITORY / "workers"
