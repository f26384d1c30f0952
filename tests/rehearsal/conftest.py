# SPDX-License-Identifier: GPL-3.0-or-later
"""One rehearsal with the real repositories, made for all tests here; without the repositories they are skipped."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from tests import upstream_clones
from tests.conftest import ROOT


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal that is over: what it printed, its status, and its hosts."""

    status: int
    output: str

    def facts(self) -> dict[str, Any]:
        """What its run yielded, in the form of tests/data/rehearsal."""
        facts: dict[str, Any] = json.loads(run("-m", "lab.rehearsal", "facts"))
        return facts

    def on_host(self, host: str, *words: str, stdin: str = "") -> str:
        """Run a command on one of its hosts and return its output; a failing one fails the test."""
        return run("-m", "lab", "ssh", host, "--", shlex.join(words), stdin=stdin)


def environment() -> dict[str, str]:
    """The rehearsal's lab, not the usual one."""
    return {**os.environ, "LAB_VARIANT": "rehearsal"}


def run(*words: str, stdin: str = "") -> str:
    """Run the lab's command line for the rehearsal's hosts."""
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment(), input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-800:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def rehearsal() -> Rehearsal:
    """`make rehearse`, once; its hosts stay up, as they do for a user."""
    if not upstream_clones.CLONES:
        pytest.skip(upstream_clones.REASON)
    command = ["make", "--no-print-directory", "rehearse", f"UPSTREAM={upstream_clones.CLONES}"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return Rehearsal(done.returncode, done.stdout)
