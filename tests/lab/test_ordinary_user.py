# SPDX-License-Identifier: GPL-3.0-or-later
"""`make lab` by an ordinary user in the group docker, whose umask is strict, from a fresh clone to a finished run and down again."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import images
from tests.lab.machine import Machine, copy_tree, docker, lab_of, somebody_elses

pytestmark = [pytest.mark.docker, pytest.mark.long]

NAME = "fleet-tester"
SECONDS = 2400  # an environment, the staging content and a run, none of it there before


@dataclass(frozen=True)
class User:
    """An account of this machine with a clone in its home."""

    clone: Path

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        """Run a target of the Makefile as this user would."""
        left_out = ("XDG_", "PYTHON", "VIRTUAL_ENV", "ANSIBLE", "PYTEST")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        account = {
            "HOME": str(self.clone.parent),
            "USER": NAME,
            "LOGNAME": NAME,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }
        return subprocess.run(
            ["make", target],
            cwd=self.clone,
            env={**kept, **account},
            user=NAME,
            group=NAME,
            extra_groups=["docker"],
            umask=0o077,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )


@pytest.fixture
def user() -> Iterator[User]:
    """The account, in the group docker and in nothing else; removed with its home."""
    if os.geteuid() or not shutil.which("useradd"):
        pytest.skip("only root can make an account, with useradd")
    python = subprocess.run(
        ["/usr/bin/python3", "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"], check=False
    )
    if python.returncode:
        pytest.skip("/usr/bin/python3 is not 3.11 with ensurepip (python3-venv)")
    remove_account()
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", "--groups", "docker", NAME], check=True)
    home = Path(pwd.getpwnam(NAME).pw_dir)
    clone = home / "clone"
    clone.mkdir()
    copy_tree(clone)
    subprocess.run(["chown", "-R", f"{NAME}:{NAME}", str(home)], check=True)
    subprocess.run(["chmod", "-R", "go=", str(home)], check=True)
    made = User(clone)
    try:
        yield made
    finally:
        made.make("lab-down")
        remove_account()


def remove_account() -> None:
    """Remove the account, its processes (ssh's master connections) and its files."""
    subprocess.run(["pkill", "-U", NAME], check=False, capture_output=True)
    subprocess.run(["userdel", "--remove", "--force", NAME], check=False, capture_output=True)


def test_an_ordinary_user_has_a_lab_and_leaves_no_trace(user: User) -> None:
    name = lab_of(user.clone)
    with somebody_elses(images.tag("staging")):
        before = Machine.look(name)
        assert before.lab == frozenset()
        done = user.make("lab")
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        assert "loss" in done.stdout.partition("PLAY RECAP")[0]
        assert "failed=0" in done.stdout
        assert len([line for line in Machine.look(name).lab if line.startswith("container")]) == 3
        for folder in ("/", "/etc", "/usr/local/lib"):
            assert docker("exec", f"{name}-npu-1", "stat", "-c", "%a", folder) == "755", "a strict umask stays outside"
        down = user.make("lab-down")
        assert down.returncode == 0, down.stdout + down.stderr
        after = Machine.look(name)
    assert after.lab == frozenset(), down.stdout
    assert (after.foreign, after.daemon) == (before.foreign, before.daemon)
    assert not (user.clone / ".lab").exists()
