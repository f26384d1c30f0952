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
options:
  npu_smi:
    description: Name or path of the tool npu-smi.
    type: str
    default: npu-smi
  hccn_tool:
    description: Name or path of the tool hccn_tool; the driver's own directory is looked into as well.
    type: str
    default: hccn_tool
  hccn_conf:
    description: The file with the addresses that are set at start and that HCCL reads.
    type: path
    default: /etc/hccn.conf
  timeout:
    description: Seconds that one call of a tool may take before it is ended and reported.
    type: float
    default: 20
  expected_chips:
    description:
      - Physical ids (N of C(/dev/davinciN)) that have to be there, healthy and free.
      - Without any, every chip found has to be healthy, and processes on them are only reported.
    type: list
    elements: int
    default: []
  allowed_container:
    description: Name of the container that may hold the expected chips.
    type: str
    default: ""
  minimum_driver:
    description: Oldest driver version that will do, for example V(25.0.rc1). Empty takes any.
    type: str
    default: ""
  docker_cli:
    description: Docker or a command-line tool compatible with it; asked only when a container holds an NPU.
    type: str
    default: docker
  details:
    description: What else to ask each chip or card for, see C(npu_info).
    type: list
    elements: str
    choices: [board, ecc, memory, usages]
    default: []
  optical:
    description: Also read the values of the optical modules, and compare them with the thresholds that the modules name.
    type: bool
    default: false
  mtu:
    description: Also read the MTU of the NPUs' ports.
    type: bool
    default: false
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
attributes:
  check_mode:
    support: full
    description: Only reads.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Only reads.
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
actions:
  description: Always empty.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.server_info import server_info

KINDS = ["board", "ecc", "memory", "usages"]


def main() -> None:
    """Run the module."""
    run_module(
        {
            "npu_smi": {"type": "str", "default": "npu-smi"},
            "hccn_tool": {"type": "str", "default": "hccn_tool"},
            "hccn_conf": {"type": "path", "default": "/etc/hccn.conf"},
            "timeout": {"type": "float", "default": 20},
            "expected_chips": {"type": "list", "elements": "int", "default": []},
            "allowed_container": {"type": "str", "default": ""},
            "minimum_driver": {"type": "str", "default": ""},
            "docker_cli": {"type": "str", "default": "docker"},
            "details": {"type": "list", "elements": "str", "choices": KINDS, "default": []},
            "optical": {"type": "bool", "default": False},
            "mtu": {"type": "bool", "default": False},
            "interface": {"type": "str", "default": ""},
            "sent_at": {"type": "float", "default": 0},
            "work_root": {"type": "str", "default": ""},
        },
        server_info,
    )


if __name__ == "__main__":
    main()
