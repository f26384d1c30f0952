# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual environments: locked packages with hashes, then torch by version from wherever its CPU build is.

`.venv` is the controller's and the lab's; `.venv-2.17` stands beside it for fleets whose servers have a Python that only the older
ansible-core manages; `.venv-rehearsal` is the one in which the real MindSpeed-LLM runs on a CPU.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from say import ROOT, SetupError, run, say

TORCH_VERSION = "2.13.0"


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the packages of its lock.

    `whole`: the lock names everything, and pip resolves nothing. `torch`: it computes, and is not only for controlling.
    """

    venv: Path
    lock: Path
    whole: bool = False
    torch: bool = True

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.venv / "bin" / "python"

    @property
    def pip(self) -> list[str]:
        """Its pip. -qq: pip's own errors still show; its notes about every index it looked into do not."""
        return [str(self.python), "-m", "pip", "-qq", "--no-input", "--disable-pip-version-check"]

    def prepare(self) -> None:
        """Create or update it; where the stamp matches the lock, nothing is looked at (milliseconds)."""
        wanted = self._wanted()
        if self._stamped() == wanted:
            return
        if not self.python.exists():
            say(f"creating the virtual environment {self.venv}")
            run([sys.executable, "-m", "venv", "--clear", str(self.venv)])
        say(f"installing what {self.lock.relative_to(ROOT)} locks, with hashes (a minute or two)")
        self._install_lock()
        if self.torch and not self._has_torch():
            self._install_torch()
        self._stamp().write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")

    def _wanted(self) -> dict[str, str]:
        return {
            "lock": hashlib.sha256(self.lock.read_bytes()).hexdigest(),
            "torch": TORCH_VERSION if self.torch else "none",
            "python": platform.python_version(),
        }

    def _stamp(self) -> Path:
        return self.venv / "ascend-fleet.json"

    def _stamped(self) -> dict[str, str] | None:
        try:
            found = json.loads(self._stamp().read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if self.python.exists() else None

    def _install_lock(self) -> None:
        options = ["--no-deps"] if self.whole else []
        run([*self.pip, "install", "--require-hashes", *options, "-r", str(self.lock)])

    def _has_torch(self) -> bool:
        """True when this version of torch (of whatever build) is installed."""
        return any(self.venv.glob(f"lib/python3.*/site-packages/torch-{TORCH_VERSION}*.dist-info"))

    def _install_torch(self) -> None:
        index = os.environ.get("TORCH_INDEX_URL")
        source = "the index that TORCH_INDEX_URL names" if index else "the configured package index"
        say(f"fetching torch {TORCH_VERSION} from {source}")
        with tempfile.TemporaryDirectory(prefix="torch-") as directory:
            options = ["--index-url", index] if index else []
            run([*self.pip, "download", "--no-deps", "--dest", directory, *options, f"torch=={TORCH_VERSION}"])
            wheel = _only_wheel(Path(directory))
            say(f"installing {wheel.name}, {wheel.stat().st_size / 1e6:.0f} MB")
            if _needs_cuda(wheel):
                say(
                    "this build of torch brings several GB of CUDA libraries that nothing here uses; "
                    "set TORCH_INDEX_URL to an index that has the CPU build to avoid them"
                )
                run([*self.pip, "install", str(wheel)])
                say("putting back the locked setuptools (pip remarks that torch asks for a newer one)")
                self._install_lock()
            else:
                # The lock holds all else that torch imports.
                run([*self.pip, "install", "--no-deps", str(wheel)])


CONTROLLER = Environment(ROOT / ".venv", ROOT / "requirements" / "ansible-2.19.txt")
OLDER = Environment(ROOT / ".venv-2.17", ROOT / "requirements" / "ansible-2.17.txt", torch=False)
REHEARSAL = Environment(ROOT / ".venv-rehearsal", ROOT / "requirements" / "rehearsal.txt", whole=True)


def prepare_chosen() -> None:
    """Create or update the environment that the variable ANSIBLE names: 2.19, which is also meant without it, or 2.17."""
    choices = {"2.19": CONTROLLER, "2.17": OLDER}
    chosen = os.environ.get("ANSIBLE") or "2.19"
    if chosen not in choices:
        raise SetupError(f"there is no environment for ANSIBLE={chosen}; choose one of {', '.join(choices)}")
    choices[chosen].prepare()


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
