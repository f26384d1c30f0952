# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks run for real on this machine, with modules that only tell what they were asked: what an inventory makes of the roles."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.runs import run_playbook

# Takes any arguments and returns them as `asked`, beside what the roles read from a stage that has nothing to do.
MODULE = """#!/usr/bin/python
# WANT_JSON
import json, sys
with open(sys.argv[1]) as stream:
    asked = {key: value for key, value in json.load(stream).items() if not key.startswith("_ansible")}
print(json.dumps({"changed": False, "asked": asked, "found": "ok", "ids": ["sha256:" + 64 * "0"], "actions": ["x"],
                  "root": "/source", "directory": "/made", "inputs": {"from": "recorder"}, "parents": {}, "manifest": {},
                  "directories": [], "structure": [], "remarks": [], "loaded": False}))
"""
REAL = ("run_plan", "show_text")


@dataclass
class Recorded:
    """What every task of a module was asked on every host, and how the playbook ended."""

    rc: int
    output: str
    calls: list[tuple[str, str, dict[str, Any]]]

    def asked(self, module: str, host: str) -> dict[str, Any]:
        """Return the arguments of the last call of a module on a host."""
        return [arguments for name, at, arguments in self.calls if (name, at) == (module, host)][-1]


def record(tmp_path: Path, inventory: Path, playbooks: Sequence[str], **variables: Any) -> Recorded:
    """Run playbooks on an inventory whose hosts are all this machine; every module of library/ but the plan is a recorder."""
    modules = tmp_path / "recorder"
    modules.mkdir()
    for path in (ROOT / "library").glob("*.py"):
        if path.stem not in REAL:
            (modules / path.name).write_text(MODULE)
    top = tmp_path / "recorded.yml"
    top.write_text("".join(f"- import_playbook: {ROOT}/playbooks/{name}.yml\n" for name in playbooks))
    done = run_playbook(
        tmp_path,
        str(top),
        inventory,
        environment={"ANSIBLE_LIBRARY": f"{modules}:{ROOT / 'library'}"},
        ansible_connection="local",
        ansible_python_interpreter=sys.executable,
        ansible_become=False,
        **variables,
    )
    data = [event["event_data"] for event in done.events if event["event"] == "runner_on_ok"]
    calls = [(item["task_action"], item["host"], item["res"]["asked"]) for item in data if "asked" in item["res"]]
    return Recorded(done.rc, done.output, calls)
