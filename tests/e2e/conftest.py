# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml driven through ansible-runner, judged by its events and stats and by what lies on the lab's hosts."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.runs import Run, run_playbook

NPU_HOSTS = ("npu-1", "npu-2")
WORK_ROOT = "/data/ascend-fleet"
__all__ = ["NPU_HOSTS", "WORK_ROOT", "Playbook", "Run", "current_receipt", "on_host"]

Playbook = Callable[..., Run]


@pytest.fixture(scope="session")
def lab() -> None:
    """The lab's hosts, up; a running lab that is as it should be is left alone."""
    subprocess.run([sys.executable, "-m", "lab", "up"], cwd=ROOT, check=True)


@pytest.fixture(scope="session")
def playbook(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Playbook:
    """Run a playbook of this checkout against the lab: `playbook("site.yml", tags=..., check=..., **extra_vars)`."""

    def run(name: str, tags: str = "", cmdline: str = "", **extra_vars: Any) -> Run:
        line = " ".join(part for part in (f"--tags {tags}" if tags else "", cmdline) if part)
        return run_playbook(tmp_path_factory.mktemp("runner"), name, ROOT / "inventory" / "lab", line, **extra_vars)

    return run


def on_host(host: str, command: str) -> str:
    """Run a shell line on a lab host over ssh and return its output; a failing line fails the test."""
    line = [sys.executable, "-m", "lab", "ssh", host, "--", "bash", "-c", shlex.quote(command)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{host}: {command}: {done.stderr}"
    return done.stdout


def current_receipt(host: str, stage: str) -> dict[str, Any]:
    """Return the receipt in use of a stage on a host."""
    return json.loads(on_host(host, f"cat {WORK_ROOT}/{stage}/current/receipt.json"))


@pytest.fixture
def bare_hosts(lab: None) -> None:
    """Servers as they come: no container, no image, no work root."""
    for host in NPU_HOSTS:
        on_host(host, "docker ps -aq | xargs -r docker rm -f >/dev/null; docker image prune -af >/dev/null")
        on_host(host, f"rm -rf {WORK_ROOT}")
