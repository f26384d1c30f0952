# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's hosts for tests that look at the hosts themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import staging

ROOT = Path(__file__).resolve().parents[2]
Shell = Callable[..., "subprocess.CompletedProcess[str]"]


def lab(*words: str) -> str:
    """Run a lab command; return what it printed."""
    argv = [sys.executable, "-m", "lab", *words]
    return subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def fleet() -> None:
    """The lab, up."""
    lab("up")


@pytest.fixture
def shell(fleet: None) -> Shell:
    """Run a shell script on a lab host over ssh; unless told otherwise it has to end with status 0."""

    def run(host: str, script: str, *, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "lab", "ssh", host, "bash", "-s"]
        done = subprocess.run(
            argv, input=script, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def image(fleet: None) -> Iterator[str]:
    """The training image in npu-2's engine; taken away again if it was not there before."""
    name = staging.TRAINING_IMAGE
    ssh = [sys.executable, "-m", "lab", "ssh", "npu-2"]
    there = subprocess.run([*ssh, "docker", "image", "inspect", name], cwd=ROOT, capture_output=True, check=False)
    if there.returncode:
        piece = next(piece for piece in staging.pieces() if piece.name == "image")
        archive = next((piece.directory / "images").glob("*.tar"))
        with archive.open("rb") as stream:
            subprocess.run([*ssh, "docker", "load", "--quiet"], cwd=ROOT, stdin=stream, check=True)
    yield name
    if there.returncode:
        subprocess.run([*ssh, "docker", "image", "rm", name], cwd=ROOT, check=True, capture_output=True)
