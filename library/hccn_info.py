#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module hccn_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hccn_info
short_description: Look at the network ports of a server's NPUs and say what is wrong with them
description:
  - Asks C(hccn_tool) for link, address, gateway, net health, netdetect and TLS switch of each NPU, and compares the addresses with
    C(/etc/hccn.conf), in one call.
  - A port that is down does not fail the module. It is a finding, so that the findings of all servers can be reported together.
author: ascend-fleet contributors (@ascend-fleet)
options:
  npus:
    description: Physical ids of the NPUs to look at. Without any, all that have a device node.
    type: list
    elements: int
    default: []
  hccn_tool:
    description: Name or path of the tool; the driver's own directory is looked into as well.
    type: str
    default: hccn_tool
  hccn_conf:
    description: The file with the addresses that are set at start and that HCCL reads.
    type: path
    default: /etc/hccn.conf
  timeout:
    description: Seconds that one call of the tool may take before it is ended and reported.
    type: float
    default: 20
  optical:
    description: Also read the values of the optical modules, and compare them with the thresholds that the modules name.
    type: bool
    default: false
  mtu:
    description: Also read the MTU of the ports.
    type: bool
    default: false
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
- name: Look at the network of the NPUs that the job will use
  hccn_info:
    npus: [2, 3]
  register: ports

- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ ports.findings | map(attribute='message') }}"
"""

RETURN = r"""
status:
  description: V(error) if any finding has the severity error, else V(ok).
  returned: success
  type: str
ports:
  description: One entry an NPU. What the tool did not say is null.
  returned: success
  type: list
  elements: dict
  contains:
    phy_id:
      description: Physical id of the NPU.
      type: int
    link:
      description: State of the link, UP or DOWN.
      type: str
    address:
      description: Address that the device has now.
      type: str
    netmask:
      description: Netmask that the device has now.
      type: str
    gateway:
      description: Default gateway.
      type: str
    gateway_interface:
      description: Interface of the default gateway, as the device calls it.
      type: str
    net_health:
      description: Result of the device's own check, for example Success, Init, Fault, Unreachable.
      type: str
    netdetect:
      description: Address that this check looks for.
      type: str
    tls_enabled:
      description: Whether the TLS switch is on.
      type: bool
    tls_preconfigured:
      description: Whether certificates are preset.
      type: bool
    mtu:
      description: MTU of the port in bytes; null unless asked for and answered.
      type: int
    optical:
      description: Values of the optical module with their units; empty unless asked for.
      type: dict
    saved:
      description: What C(/etc/hccn.conf) has for this NPU (address, netmask, gateway, netdetect and others).
      type: dict
findings:
  description: What is wrong or worth knowing, worst first.
  returned: success
  type: list
  elements: dict
  contains:
    code:
      description: Stable name of the rule, for example C(link.down).
      type: str
    severity:
      description: One of error, warning, info.
      type: str
    chip:
      description: Physical id of the NPU concerned, or null.
      type: int
    message:
      description: What is wrong, with the value.
      type: str
    remedy:
      description: What to do about it.
      type: str
hccn_conf:
  description: Path and state (ok, absent, directory) of the file, and the NPUs in it.
  returned: success
  type: dict
tool:
  description: Path of the tool, null where there is none.
  returned: success
  type: str
actions:
  description: Always empty.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.hccn_info import hccn_info


def main() -> None:
    """Run the module."""
    run_module(
        {
            "npus": {"type": "list", "elements": "int", "default": []},
            "hccn_tool": {"type": "str", "default": "hccn_tool"},
            "hccn_conf": {"type": "path", "default": "/etc/hccn.conf"},
            "timeout": {"type": "float", "default": 20},
            "optical": {"type": "bool", "default": False},
            "mtu": {"type": "bool", "default": False},
        },
        hccn_info,
    )


if __name__ == "__main__":
    main()
