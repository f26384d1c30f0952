# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the worker programs importable and their golden data known."""

from __future__ import annotations

import importlib
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


@pytest.fixture(scope="session")
def model_imports() -> None:
    """Import what transformers imports at its first model, with Python's own sys.intern in place: Ansible, which other
    tests load into this process, replaces that function with an object that torch._dynamo refuses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "intern", getattr(sys.intern, "unpatched_implementation", sys.intern))
        importlib.import_module("torch._dynamo")
