#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory script: what the lab chose, its addresses and the commits of its stand-in repositories, as literal values.

As inventory/rehearsal/addresses.py it speaks of the rehearsal's lab. While the lab is down every host has a name for its
address that says so in ssh's own message.
"""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).absolute().parent  # a link is not followed: which inventory asks decides
STATE = HERE.parent.parent / {"lab": ".lab", "rehearsal": ".lab-rehearsal"}[HERE.name]
HOSTS = ("npu-1", "npu-2", "staging-1")
LAB_IS_DOWN = "the-lab-is-not-up.run-make-lab-up"


def address(name: str) -> str:
    """A host's address; LAB_IS_DOWN without a lab."""
    path = STATE / "address" / name
    return path.read_text(encoding="utf-8").strip() if path.is_file() else LAB_IS_DOWN


def commits() -> dict[str, str]:
    """Repository -> the full commit to pin; empty without a lab."""
    path = STATE / "commits.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def main() -> None:
    """Print the inventory as JSON (ansible asks with --list; host variables come along, so --host is never asked)."""
    variables = {name: {"ansible_host": address(name)} for name in HOSTS}
    groups = {"all": {"vars": {"ascend_lab_commits": commits()}}, "lab": {"hosts": list(HOSTS)}}
    print(json.dumps({**groups, "_meta": {"hostvars": variables}}))


if __name__ == "__main__":
    main()
