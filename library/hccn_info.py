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
extends_documentation_fragment: [fleet.hccn, fleet.reads]
options:
  npus:
    description: Physical ids of the NPUs to look at. Without any, all that have a device node.
    type: list
    elements: int
    default: []
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
  description: Path and state (ok, absent, closed to this user, directory) of the file, and the NPUs in it.
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
from ansible.module_utils.ascend_fleet.options import HCCN


def main() -> None:
    """Run the module."""
    run_module(
        {
            **HCCN,
            "npus": {"type": "list", "elements": "int", "default": []},
        },
        hccn_info,
    )


if __name__ == "__main__":
    main()
