#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module port_listener."""

from __future__ import annotations

DOCUMENTATION = r"""
module: port_listener
short_description: Answer on ports for a while, so that other servers can try to reach them
description:
  - Starts a process that accepts connections on the given ports and answers each with one line, the server's name. It ends when it is
    told to with O(state=absent), or after O(seconds) by itself.
  - Ports that are taken are reported with the process that has them. Nothing stays, so nothing counts as changed.
author: ascend-fleet contributors (@ascend-fleet)
options:
  ports:
    description: TCP ports.
    type: list
    elements: int
    required: true
  name:
    description: Name to answer with.
    type: str
    default: ""
  token:
    description: A word of this check; a listener answers with it, and ends only for a caller on the same server that knows it.
    type: str
    required: true
  seconds:
    description: How long the listener lives at most.
    type: float
    default: 120
  state:
    description: Whether the listener is to run.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Reports ports that are taken, and starts and ends nothing.
  diff_mode:
    support: none
    description: Nothing stays that could differ.
  idempotent:
    support: full
    description: Never reports a change, since what it starts ends by itself.
"""

EXAMPLES = r"""
- name: Answer on the port where the ranks will meet
  port_listener:
    ports: [6000]
    name: "{{ inventory_hostname }}"
    token: 3f9a
    seconds: 60

- name: Stop answering
  port_listener:
    ports: [6000]
    token: 3f9a
    state: absent
"""

RETURN = r"""
ports:
  description: Ports on which the listener answers now, or with O(state=absent) that on which one was told to end.
  returned: success
  type: list
  elements: int
taken:
  description: One line for each port that somebody else listens on, with the process where it can be seen.
  returned: success
  type: list
  elements: str
actions:
  description: What was done, or with check mode would be.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.port_listener import port_listener


def main() -> None:
    """Run the module."""
    run_module(
        {
            "ports": {"type": "list", "elements": "int", "required": True},
            "name": {"type": "str", "default": ""},
            "token": {"type": "str", "required": True, "no_log": False},
            "seconds": {"type": "float", "default": 120},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        port_listener,
    )


if __name__ == "__main__":
    main()
