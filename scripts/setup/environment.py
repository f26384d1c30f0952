# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual environment .venv: locked packages with hashes, then torch by version from wherever its CPU build is."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
import zipfile
from pathlib import Path

from say import ROOT, SetupError, run, say

TORCH_VERSION = "2.13.0"
LOCK = ROOT / "requirements" / "ansible-2.19.txt"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "ascend-fleet.json"
# -qq: pip's own errors still show; its notes about every index it looked into do not.
PIP = [str(PYTHON), "-m", "pip", "-qq", "--no-input", "--disable-pip-version-check"]


def prepare() -> None:
    """Create or update .venv; where the stamp matches the lock, nothing is looked at (milliseconds)."""
    wanted = _wanted()
    if _stamp() == wanted:
        return
    if not PYTHON.exists():
        say(f"creating the virtual environment {VENV}")
        run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    say(f"installing what {LOCK.relative_to(ROOT)} locks, with hashes (about a minute)")
    run([*PIP, "install", "--require-hashes", "-r", str(LOCK)])
    if not _has_torch():
        _install_torch()
    STAMP.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")


def _wanted() -> dict[str, str]:
    return {
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
        "torch": TORCH_VERSION,
        "python": platform.python_version(),
    }


def _stamp() -> dict[str, str] | None:
    try:
        found = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if PYTHON.exists() else None


def _has_torch() -> bool:
    """True when this version of torch (of whatever build) is installed."""
    return any(VENV.glob(f"lib/python3.*/site-packages/torch-{TORCH_VERSION}*.dist-info"))


def _install_torch() -> None:
    index = os.environ.get("TORCH_INDEX_URL")
    source = "the index that TORCH_INDEX_URL names" if index else "the configured package index"
    say(f"fetching torch {TORCH_VERSION} from {source}")
    with tempfile.TemporaryDirectory(prefix="torch-") as directory:
        options = ["--index-url", index] if index else []
        run([*PIP, "download", "--no-deps", "--dest", directory, *options, f"torch=={TORCH_VERSION}"])
        wheel = _only_wheel(Path(directory))
        say(f"installing {wheel.name}, {wheel.stat().st_size / 1e6:.0f} MB")
        if _needs_cuda(wheel):
            say(
                "this build of torch brings several GB of CUDA libraries that nothing here uses; "
                "set TORCH_INDEX_URL to an index that has the CPU build to avoid them"
            )
            run([*PIP, "install", str(wheel)])
            say("putting back the locked setuptools (pip remarks that torch asks for a newer one)")
            run([*PIP, "install", "--require-hashes", "-r", str(LOCK)])
        else:
            # The lock holds all else that torch imports.
            run([*PIP, "install", "--no-deps", str(wheel)])


def _only_wheel(directory: Path) -> Path:
    wheels = list(directory.glob("torch-*.whl"))
    if len(wheels) != 1:
        found = ", ".join(sorted(path.name for path in directory.iterdir())) or "nothing"
        raise SetupError(f"the index gave {found} for torch {TORCH_VERSION}; a wheel for this Python is needed")
    return wheels[0]


def _needs_cuda(wheel: Path) -> bool:
    """True when the wheel's own metadata asks for CUDA packages."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return b"Requires-Dist: nvidia" in archive.read(metadata)
