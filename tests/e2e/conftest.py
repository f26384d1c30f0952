# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml driven through ansible-runner, judged by its events and stats and by what lies on the lab's hosts."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.e2e.snapshot import Snapshot, take, take_controller
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

    def run(name: str, tags: str = "", cmdline: str = "", overlay: Path | None = None, **extra_vars: Any) -> Run:
        line = " ".join(part for part in (f"--tags {tags}" if tags else "", cmdline) if part)
        # A second inventory only changes variables of hosts that the first one has.
        inventories = [str(ROOT / "inventory" / "lab"), *([str(overlay)] if overlay else [])]
        return run_playbook(tmp_path_factory.mktemp("runner"), name, inventories, line, **extra_vars)

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


Snapshots = dict[str, Snapshot]
ON_STAGING = ("/srv/ascend", "/var/cache/ascend-fleet", "/var/lib/ascend-fleet")


def look_everywhere() -> Snapshots:
    """Return what lies on every host of the lab and on the controller."""
    roots = {**dict.fromkeys(NPU_HOSTS, (WORK_ROOT,)), "staging-1": ON_STAGING}
    return {
        "controller": take_controller(),
        **{host: take(on_host, host, (*places, "/root/.ssh")) for host, places in roots.items()},
    }


def clear() -> None:
    """Bring the lab to where it is before the first run: no container, no image, no work root, nothing remembered."""
    for host in NPU_HOSTS:
        on_host(host, "docker ps -aq | xargs -r docker rm -f >/dev/null; docker image prune -af >/dev/null")
        on_host(host, f"rm -rf {WORK_ROOT}")
    on_host("staging-1", f"rm -rf {' '.join(ON_STAGING[1:])}")
    for plan in (ROOT / "reports").glob("plan*"):
        plan.unlink()


@dataclass(frozen=True)
class Mission:
    """Bare servers, what check mode predicts for them, and the run that took them to a finished training, with its report."""

    bare: Snapshots
    predicted: Run
    after_prediction: Snapshots
    run: Run
    report: Path


@pytest.fixture(scope="session")
def mission(playbook: Playbook, tmp_path_factory: pytest.TempPathFactory) -> Mission:
    """The one way from bare to finished; whoever breaks something of it, or changes what is in use, brings it back."""
    clear()
    bare = look_everywhere()
    predicted = playbook("site.yml", cmdline="--check --diff")
    after = look_everywhere()
    report = tmp_path_factory.mktemp("report") / "report.html"
    return Mission(bare, predicted, after, playbook("site.yml", report_output=str(report)), report)


@pytest.fixture(scope="session")
def finished(request: pytest.FixtureRequest, playbook: Playbook) -> str:
    """A finished run in use on both hosts; its fingerprint. From bare servers where a test of this session needs that, too."""
    bare_first = any("mission" in getattr(item, "fixturenames", ()) for item in request.session.items)
    run = request.getfixturevalue("mission").run if bare_first else playbook("site.yml")
    assert run.rc == 0, run.output[-4000:]
    name: str = current_receipt("npu-1", "run")["fingerprint"]
    return name
