# SPDX-License-Identifier: GPL-3.0-or-later
"""What every setup step shares: messages, commands, and the one error that ends a setup."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PATHS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class SetupError(Exception):
    """Setup cannot go on; the text names the value and the remedy."""


def say(text: str) -> None:
    """Tell the user what is about to happen; flushed, because what follows can take minutes."""
    print(f"setup: {text}", flush=True)


def find(program: str) -> str | None:
    """A program's path; the sbin directories count even if PATH lacks them."""
    return shutil.which(program) or shutil.which(program, path=":".join(PATHS))


def state_directory() -> Path:
    """Where things of the machine (not of one clone) are remembered: the engine's pid and log."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    directory = base / "ascend-fleet-lab"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def run(argv: Sequence[str], environment: dict[str, str] | None = None) -> None:
    """Run a command whose output the user sees; a failure becomes a SetupError."""
    try:
        status = subprocess.run(argv, env={**os.environ, **(environment or {})}, check=False).returncode
    except FileNotFoundError as error:
        raise SetupError(f"{argv[0]} is not installed: {error}") from error
    if status:
        raise SetupError(f"`{' '.join(argv)}` ended with status {status}; its message stands above")
