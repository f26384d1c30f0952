# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml driven through ansible-runner, judged by its events and stats and by what lies on the lab's hosts."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible_runner
import pytest

from tests.conftest import ROOT

NPU_HOSTS = ("npu-1", "npu-2")
WORK_ROOT = "/data/ascend-fleet"


@dataclass
class Run:
    """How a playbook ended."""

    rc: int
    stats: dict[str, dict[str, int]]
    events: list[dict[str, Any]]
    output: str

    def changed(self) -> dict[str, int]:
        """Return host -> number of changed tasks, hosts without any left out."""
        return {host: count for host, count in self.stats.get("changed", {}).items() if count}

    def failed(self) -> set[str]:
        """Return the hosts with a failed task or that were unreachable."""
        return {host for kind in ("failures", "dark") for host, count in self.stats.get(kind, {}).items() if count}

    def results(self, action: str, kinds: tuple[str, ...] = ("runner_on_ok",)) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (host, result) of every task that called this module."""
        for event in self.events:
            data = event.get("event_data", {})
            if event["event"] in kinds and data.get("task_action") == action:
                yield data["host"], data["res"]

    def failures(self) -> dict[str, str]:
        """Return host -> message of its failed task."""
        found = {}
        for event in self.events:
            if event["event"] in ("runner_on_failed", "runner_on_unreachable"):
                data = event["event_data"]
                if not data.get("ignore_errors"):
                    found[data["host"]] = str(data["res"].get("msg", ""))
        return found


Playbook = Callable[..., Run]


@pytest.fixture(scope="session")
def lab() -> None:
    """The lab's hosts, up; a running lab that is as it should be is left alone."""
    subprocess.run([sys.executable, "-m", "lab", "up"], cwd=ROOT, check=True)


@pytest.fixture(scope="session")
def playbook(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Playbook:
    """Run a playbook of this checkout against the lab: `playbook("site.yml", tags=..., check=..., **extra_vars)`."""

    def run(name: str, tags: str = "", cmdline: str = "", **extra_vars: Any) -> Run:
        private = tmp_path_factory.mktemp("runner")
        line = " ".join(part for part in (f"--tags {tags}" if tags else "", cmdline) if part)
        runner = ansible_runner.run(
            private_data_dir=str(private),
            project_dir=str(ROOT),
            playbook=name,
            inventory=str(ROOT / "inventory" / "lab"),
            envvars={
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                # The runner puts its own callback before these instead of reading the path from ansible.cfg.
                "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "plugins" / "callback"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            },
            extravars=extra_vars,
            cmdline=line or None,
            quiet=True,
        )
        output = Path(runner.config.artifact_dir, "stdout").read_text()
        return Run(runner.rc, runner.stats or {}, list(runner.events), output)

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
