#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module npu_server_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: npu_server_info
short_description: Check the NPUs, their network and the server in one call
description:
  - Everything that C(npu_info) and C(hccn_info) look at, side by side, and what servers of one job should have in common (kernel, clock,
    network interface). A task costs more than all of these looks together, so that a fleet is checked with one.
  - What is wrong does not fail the module. It is a finding, so that the findings of all servers can be reported together.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.npu, fleet.hccn, fleet.reads]
options:
  interface:
    description: Network interface of the server that the job uses; empty looks at none.
    type: str
    default: ""
  sent_at:
    description: The controller's time when it sends the module off, in seconds since 1970; 0 does not compare the clocks.
    type: float
    default: 0
  work_root:
    description: The directory on the server that everything derives from, to look for unfinished training runs; empty does not.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Check everything that the job will use
  npu_server_info:
    expected_chips: [2, 3]
    allowed_container: LLM-2025-rc1
    interface: eth0
    details: [board, ecc]
    sent_at: "{{ now().timestamp() }}"
  register: server

- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ server.findings | map(attribute='message') }}"
"""

RETURN = r"""
status:
  description: V(error) if any finding has the severity error, else V(ok).
  returned: success
  type: str
findings:
  description: What is wrong or worth knowing, of NPUs, network and server.
  returned: success
  type: list
  elements: dict
  contains:
    code:
      description: Stable name of the rule, for example C(chip.health).
      type: str
    severity:
      description: One of error, warning, info.
      type: str
    chip:
      description: Physical id of the chip concerned, or null.
      type: int
    message:
      description: What is wrong, with the value.
      type: str
    remedy:
      description: What to do about it.
      type: str
chips:
  description: The chips, as C(npu_info) returns them.
  returned: success
  type: list
  elements: dict
npus:
  description: What C(npu_info) returns besides the chips.
  returned: success
  type: dict
network:
  description: What C(hccn_info) returns.
  returned: success
  type: dict
server:
  description: What servers of one job should have in common.
  returned: success
  type: dict
  contains:
    kernel:
      description: Release of the running kernel.
      type: str
    architecture:
      description: Machine architecture.
      type: str
    system:
      description: Name of the operating system.
      type: str
    memory_mb:
      description: Main memory in MB.
      type: int
    clock_offset_s:
      description: The server's clock minus the controller's at sending, in seconds; it contains the time that sending took.
      type: float
    interface:
      description: The job's network interface with name, state, mtu (bytes) and speed_mbps; null where it is not there.
      type: dict
    interfaces:
      description: Names of all network interfaces but the loopback.
      type: list
unfinished_runs:
  description: Fingerprints of training runs that were started here and have no receipt.
  returned: success
  type: list
  elements: str
asked:
  description: The parameters, those that were left out too, so that an answer can serve again for the same questions.
  returned: success
  type: dict
actions:
  description: Always empty.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.options import HCCN, NPU
from ansible.module_utils.ascend_fleet.server_info import server_info


def main() -> None:
    """Run the module."""
    run_module(
        {
            **NPU,
            **HCCN,
            "interface": {"type": "str", "default": ""},
            "sent_at": {"type": "float", "default": 0},
            "work_root": {"type": "str", "default": ""},
        },
        server_info,
    )


if __name__ == "__main__":
    main()
