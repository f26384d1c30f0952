# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks run through ansible-runner, judged by events, stats and the report of problems; never by printed text alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
import pytest

from tests.conftest import ROOT

# The playbooks run under the ansible-core that the variable ANSIBLE names, as with make; the tests themselves always under the default.
OLDER = os.environ.get("ANSIBLE") == "2.17"
PROGRAMS = ROOT / ".venv-2.17" / "bin" if OLDER else Path(sys.executable).parent


@dataclass(frozen=True)
class Change:
    """A task that changed something on a host, or in check mode would. `what` is its module, with the stage or step where needed."""

    host: str
    what: str
    result: dict[str, Any]

    @property
    def actions(self) -> list[str]:
        """What the module says about it: what was found and what was done."""
        return list(self.result.get("actions", []))


@dataclass
class Run:
    """How a playbook ended. `problems` is what the callback fleet_problems wrote at its end."""

    rc: int
    stats: dict[str, dict[str, int]]
    events: list[dict[str, Any]]
    output: str
    problems: list[dict[str, Any]] = field(default_factory=list)

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

    def changes(self) -> list[Change]:
        """Return every change, in the order of the run."""
        return [
            Change(event["event_data"]["host"], _what(event["event_data"]), event["event_data"]["res"])
            for event in self.events
            if event["event"] == "runner_on_ok" and event["event_data"]["res"].get("changed")
        ]

    def changed_tasks(self) -> list[tuple[str, str]]:
        """Return (host, what) of every change, sorted."""
        return sorted((change.host, change.what) for change in self.changes())

    def changed_on_servers(self) -> list[tuple[str, str]]:
        """Return `changed_tasks()` without the plan's page on the controller, which the run before may have written otherwise."""
        return [task for task in self.changed_tasks() if task[1] != "run_plan"]

    def change(self, host: str, what: str) -> Change:
        """Return the one change of that kind on a host."""
        (found,) = [change for change in self.changes() if (change.host, change.what) == (host, what)]
        return found

    def failures(self) -> dict[str, str]:
        """Return host -> message of its failed task."""
        found = {}
        for event in self.events:
            if event["event"] in ("runner_on_failed", "runner_on_unreachable"):
                data = event["event_data"]
                if not data.get("ignore_errors"):
                    found[data["host"]] = str(data["res"].get("msg", ""))
        return found

    def problem(self, host: str) -> dict[str, Any]:
        """Return the one problem that the report has for a host."""
        (found,) = [problem for problem in self.problems if host in problem["hosts"]]
        return found


def _what(data: dict[str, Any]) -> str:
    action, result = str(data["task_action"]), data["res"]
    if action == "artifact_sync":
        return f"{action} {result['actions'][0].split()[0]}"
    return f"{action} {data['task'].split(' | ')[0].lower()}" if action == "training_job" else action


# Where ssh ends while Ansible still writes to it, what ssh said is lost: on a busy machine, and to an address that answers at once.
PATIENT_SSH = """#!/bin/sh
ssh "$@"
status=$?
[ -t 0 ] || cat > /dev/null
exit $status
"""


def patient_ssh(folder: Path) -> str:
    """Write a program below `folder` that is ssh and takes what it is sent to the end, and return its path."""
    path = folder / "patient-ssh"
    path.write_text(PATIENT_SSH, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def run_playbook(
    private: Path,
    name: str,
    inventory: Any,
    cmdline: str = "",
    project: Path = ROOT,
    environment: dict[str, str] | None = None,
    **extra_vars: Any,
) -> Run:
    """Run a playbook with this checkout's settings. `private` is an empty directory; `inventory` a path, several, or a mapping."""
    if not (PROGRAMS / "ansible-playbook").exists():
        pytest.fail(f"{PROGRAMS} has no ansible-playbook; run `make venv ANSIBLE=2.17`")
    report = private / "problems.json"
    runner = ansible_runner.run(
        private_data_dir=str(private),
        project_dir=str(project),
        playbook=name,
        inventory=str(inventory) if isinstance(inventory, Path) else inventory,
        envvars={
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            # The runner puts its own callback before these instead of reading the path from ansible.cfg.
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "plugins" / "callback"),
            # The runner would switch this off.
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
            "FLEET_PROBLEMS_FILE": str(report),
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
            **(environment or {}),
        },
        extravars=extra_vars,
        cmdline=cmdline or None,
        quiet=True,
    )
    output = Path(runner.config.artifact_dir, "stdout").read_text(encoding="utf-8")
    problems = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else []
    return Run(runner.rc, runner.stats or {}, list(runner.events), output, problems)
