# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab must leave alone on its machine, looked at before and after; clones of this working tree; things of somebody else."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CGROUPS = Path("/sys/fs/cgroup")
OF_A_LAB = re.compile(r"ascend-lab-[0-9a-f]{6}(-|$)")


def docker(*words: str) -> str:
    """Run a docker command on this machine's engine; return its output without the last newline."""
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.rstrip("\n")


@dataclass(frozen=True)
class Machine:
    """What the engine has, labs apart (other clones' may come and go meanwhile), and everything of one lab."""

    foreign: frozenset[str]
    lab: frozenset[str]
    daemon: str

    @classmethod
    def look(cls, lab: str) -> Machine:
        """Look at this machine; `lab` is the name of the lab in question."""
        lists = {
            "container": docker("ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.ID}} {{.State}}"),
            "volume": docker("volume", "ls", "--format", "{{.Name}}"),
            "network": docker("network", "ls", "--no-trunc", "--format", "{{.Name}} {{.ID}}"),
        }
        found = {f"{kind} {line}" for kind, text in lists.items() for line in text.splitlines()}
        cgroups = {f"cgroup {path.name}" for top in ("ascend-lab", "*/ascend-lab") for path in CGROUPS.glob(f"{top}/*")}
        of_labs = {line for line in found if OF_A_LAB.match(line.split()[1])}
        ours = {line for line in of_labs | cgroups if line.split()[1].startswith(lab)}
        return cls(
            frozenset(found - of_labs), frozenset(ours), docker("info", "--format", "{{.ID}} {{.DockerRootDir}}")
        )


def copy_tree(target: Path) -> None:
    """Put the files of this working tree that belong to it into a directory, as a clone would have them."""
    listed = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, check=True, capture_output=True).stdout.split(b"\0")
    there = b"\0".join(name for name in names if name and (ROOT / name.decode()).exists())
    pack = ["tar", "-C", str(ROOT), "--null", "--files-from=-", "-cf", "-"]
    tar = subprocess.run(pack, input=there, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-C", str(target), "-xf", "-"], input=tar, check=True)


def lab_of(clone: Path) -> str:
    """The name that a clone's lab has on the engine."""
    ask = [sys.executable, "-c", "from lab.shell import LAB; print(LAB)"]
    return subprocess.run(ask, cwd=clone, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def somebody_elses(image: str) -> Iterator[str]:
    """A container with a volume and a network that are none of the lab's business; yields their name."""
    name = "somebody-elses"
    remove_foreign(name)
    docker("network", "create", name)
    docker("volume", "create", name)
    try:
        mount = ["--network", name, "--volume", f"{name}:/data"]
        docker("run", "--detach", "--name", name, *mount, "--entrypoint", "sleep", image, "3600")
        yield name
    finally:
        remove_foreign(name)


def remove_foreign(name: str) -> None:
    """Remove what `somebody_elses` made, an earlier test's too."""
    for words in (("rm", "--force"), ("volume", "rm"), ("network", "rm")):
        subprocess.run(["docker", *words, name], check=False, capture_output=True)
