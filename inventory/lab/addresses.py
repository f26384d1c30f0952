#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory script: the addresses that the lab chose, as literal values, so that they also show well in ansible's output.

While the lab is down every host has a name for its address that says so in ssh's own message.
"""

from __future__ import annotations

import json
from pathlib import Path

ADDRESSES = Path(__file__).resolve().parent.parent.parent / ".lab" / "address"
HOSTS = ("npu-1", "npu-2", "staging-1")
LAB_IS_DOWN = "the-lab-is-not-up.run-make-lab-up"


def address(name: str) -> str:
    """A host's address; LAB_IS_DOWN without a lab."""
    path = ADDRESSES / name
    return path.read_text(encoding="utf-8").strip() if path.is_file() else LAB_IS_DOWN


def main() -> None:
    """Print the inventory as JSON (ansible asks with --list; host variables come along, so --host is never asked)."""
    variables = {name: {"ansible_host": address(name)} for name in HOSTS}
    print(json.dumps({"lab": {"hosts": list(HOSTS)}, "_meta": {"hostvars": variables}}))


if __name__ == "__main__":
    main()
