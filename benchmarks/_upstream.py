# SPDX-License-Identifier: GPL-3.0-or-later
"""The three upstream repositories at their pinned commits, ready to run without an NPU, for a comparison side by side."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
RELEASE = ROOT / "releases" / "2.0.0.yml"
REHEARSAL = (
    ROOT / ".venv-rehearsal" / "bin" / "python"
)  # has upstream's packages; `python3 scripts/setup rehearsal` makes it


@dataclass(frozen=True)
class Upstream:
    """``tree`` is a MindSpeed-LLM checkout with ``megatron/`` laid in, ``python`` an interpreter with its packages."""

    tree: Path
    mindspeed: Path
    python: str

    def environment(self) -> dict[str, str]:
        """Nothing stands where the NPU's software would be: neither converting nor preprocessing computes on one."""
        places = [ROOT / "benchmarks" / "npu_absent", self.mindspeed, self.tree]
        return {
            "PYTHONPATH": os.pathsep.join(map(str, places)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ASCEND_HOME_PATH": str(self.tree.parent),
            "CUDA_DEVICE_MAX_CONNECTIONS": "1",
            "HF_HUB_OFFLINE": "1",
            "PATH": os.pathsep.join([str(Path(self.python).parent), os.environ["PATH"]]),
        }


def default_python() -> str:
    """Return the interpreter that runs upstream's scripts where none is named."""
    return str(REHEARSAL) if REHEARSAL.exists() else sys.executable


def check_out(clones: Path, target: Path, python: str) -> Upstream:
    """Lay out the pinned commits of the clones below ``clones``, which are only read. A clone may be bare."""
    sources = yaml.safe_load(RELEASE.read_text(encoding="utf-8"))["sources"]
    for name, source in sources.items():
        _export(find_clone(clones, name), source["commit"], target / name)
    tree = target / "MindSpeed-LLM"
    shutil.move(str(target / "Megatron-LM" / "megatron"), str(tree / "megatron"))
    return Upstream(tree, target / "MindSpeed", python)


def find_clone(clones: Path, name: str) -> Path:
    """Return the clone of one repository: <name>, <name>.git, or the same below a directory of its owner."""
    for pattern in (name, f"{name}.git", f"*{name}/repo", f"*/{name}", f"*/{name}.git"):
        for place in sorted(clones.glob(pattern)):
            if (place / "HEAD").is_file() or (place / ".git").exists():
                return place
    raise SystemExit(f"{clones} has no clone of {name}")


def _export(clone: Path, commit: str, target: Path) -> None:
    target.mkdir(parents=True)
    archive = subprocess.Popen(["git", "-C", str(clone), "archive", commit], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", str(target)], stdin=archive.stdout, check=True)
    if archive.wait():
        raise SystemExit(f"{clone} does not have commit {commit}")
