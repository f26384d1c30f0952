# SPDX-License-Identifier: GPL-3.0-or-later
"""Every clone has a lab of its own; two are up at once, and taking one down leaves nothing of it and everything else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import images
from tests.lab.conftest import ROOT, Shell
from tests.lab.machine import Machine, copy_tree, docker, lab_of, somebody_elses

pytestmark = pytest.mark.docker

# A container that sleeps, from the server's own files: it has no image yet.
FILES = "usr/bin/sleep lib lib64 usr/lib64 usr/lib/*/libc.so.6 usr/lib/*/ld-linux*"
SLEEPER = (
    f"cd / && tar --ignore-failed-read -cf - {FILES} 2>/dev/null | docker import - sleeper:1 >/dev/null"
    " && docker run --detach sleeper:1 /usr/bin/sleep 600"
)


def lab(clone: Path, *words: str) -> str:
    """Run a lab command of a clone; return what it printed."""
    done = subprocess.run([sys.executable, "-m", "lab", *words], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def status(clone: Path) -> dict[str, dict[str, Any]]:
    """Host -> address, running, answers."""
    found: dict[str, dict[str, Any]] = json.loads(lab(clone, "status"))["hosts"]
    return found


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """Another clone of this working tree, with this one's environment."""
    place = tmp_path / "clone"
    place.mkdir()
    copy_tree(place)
    (place / ".venv").symlink_to(ROOT / ".venv")
    yield place
    lab(place, "down")


def test_a_second_lab_comes_and_goes_without_a_trace(fleet: None, shell: Shell, clone: Path) -> None:
    name, own = lab_of(clone), lab_of(ROOT)
    with somebody_elses(images.tag("staging")) as foreign:
        before, first = Machine.look(name), Machine.look(own)
        pictures = set(docker("images", "--quiet", "--no-trunc").split())
        started = docker("inspect", "--format", "{{.State.StartedAt}}", foreign)
        assert before.lab == frozenset()

        lab(clone, "up")
        here, there = status(ROOT), status(clone)
        assert all(host["answers"] for host in [*here.values(), *there.values()])
        assert not {host["address"] for host in here.values()} & {host["address"] for host in there.values()}
        # A container of the server's own leaves cgroups on the machine when the server is killed.
        lab(clone, "ssh", "npu-1", SLEEPER)
        assert any(line.startswith("cgroup") for line in Machine.look(name).lab)

        lab(clone, "down")
        after = Machine.look(name)
        assert after.lab == frozenset()
        assert not (clone / ".lab").exists()
        assert (after.foreign, after.daemon) == (before.foreign, before.daemon)
        assert pictures <= set(docker("images", "--quiet", "--no-trunc").split())
        assert docker("inspect", "--format", "{{.State.StartedAt}}", foreign) == started
    assert Machine.look(own).lab == first.lab
    assert shell("npu-1", "hostname").stdout.strip() == "npu-1"


def test_the_state_of_a_lab_is_for_its_owner_alone(fleet: None) -> None:
    keys = [path for path in (ROOT / ".lab" / "ssh").rglob("*") if path.is_file() and path.suffix != ".pub"]
    private = [path for path in keys if "PRIVATE KEY" in path.read_text(encoding="utf-8")]
    assert len(private) == 4
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)
