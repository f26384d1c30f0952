# SPDX-License-Identifier: GPL-3.0-or-later
"""Each benchmark can be started as its own text says. What it measures is not looked at: tests are not timed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

CASES = ["fits", "refused, with suggestions", "chosen by the plan"]
NAMES = sorted(path.name for path in (ROOT / "benchmarks").glob("[a-z]*.py"))


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_measures(name: str) -> None:
    told = start(f"benchmarks/{name}", "--help")
    assert told.returncode == 0, told.stderr
    assert "usage:" in told.stdout


def test_a_small_plan_goes_all_the_way() -> None:
    done = start("benchmarks/plan.py", "--hosts", "4")
    assert [line.split("  ")[-1].partition(":")[0] for line in done.stdout.splitlines()[1:-1]] == CASES, done.stderr
    assert "the aim is less than" in done.stdout
