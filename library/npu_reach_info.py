#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module npu_reach_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: npu_reach_info
short_description: Ping NPUs of other servers from this server's NPUs, and call ports of other servers
description:
  - Pings with C(hccn_tool -ping), so over the network of the NPUs and not over that of the servers, and connects to ports on which
    C(port_listener) answers on the other servers. All side by side, in one call.
  - What is not reached does not fail the module; each attempt is a row of the result.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.reads]
options:
  pings:
    description: From which NPU of this server to ping what.
    type: list
    elements: dict
    default: []
    suboptions:
      npu:
        description: Physical id of the NPU of this server.
        type: int
        required: true
      host:
        description: Name of the other server, for the result.
        type: str
        required: true
      to_npu:
        description: Physical id of the NPU there, for the result.
        type: int
        required: true
      address:
        description: Address of the NPU there.
        type: str
        required: true
  dials:
    description: Which ports to call.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: Name with which the listener of the other server has to answer.
        type: str
        required: true
      address:
        description: Address of the other server.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
  token:
    description: Word of this check, with which the listeners answer.
    type: str
    default: ""
  hccn_tool:
    description: Name or path of the tool; the driver's own directory is looked into as well.
    type: str
    default: hccn_tool
  timeout:
    description: Seconds for one ping command or one connection.
    type: float
    default: 10
"""

EXAMPLES = r"""
- name: Ping an NPU of the next server
  npu_reach_info:
    pings:
      - npu: 0
        host: npu-2
        to_npu: 0
        address: 192.0.2.20
  register: reached
"""

RETURN = r"""
pings:
  description: The pings that were asked for, each with ok, sent, received, fastest_ms (milliseconds, or null) and said.
  returned: success
  type: list
  elements: dict
dials:
  description: The calls that were asked for, each with state (V(ok), V(refused), V(timeout), V(stranger)) and said.
  returned: success
  type: list
  elements: dict
actions:
  description: Always empty.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.reach import reach_info

TEXT = {"type": "str", "required": True}
NUMBER = {"type": "int", "required": True}


def main() -> None:
    """Run the module."""
    run_module(
        {
            "pings": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"npu": NUMBER, "host": TEXT, "to_npu": NUMBER, "address": TEXT},
            },
            "dials": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"host": TEXT, "address": TEXT, "port": NUMBER},
            },
            "token": {"type": "str", "default": "", "no_log": False},
            "hccn_tool": {"type": "str", "default": "hccn_tool"},
            "timeout": {"type": "float", "default": 10},
        },
        reach_info,
    )


if __name__ == "__main__":
    main()
