#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module npu_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: npu_info
short_description: Look at the NPUs of a server and say what is wrong with them
description:
  - Reads C(npu-smi info), each chip's own health, the device nodes, the PCI bus, the version files of driver and firmware, and who has
    an NPU open, in one call.
  - A sick, absent or busy chip does not fail the module. It is a finding, so that the findings of all servers can be reported together.
  - Zero chips is always a finding, with the likely causes in order.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.npu, fleet.reads]
"""

EXAMPLES = r"""
- name: Look at the NPUs that the job will use
  npu_info:
    expected_chips: [2, 3]
    allowed_container: LLM-2025-rc1
  register: npus

- name: Look at a server that has eight chips, all of them
  npu_info:
    expected_chips: 8
  register: all_npus

- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ npus.findings | map(attribute='message') }}"
"""

RETURN = r"""
status:
  description: V(error) if any finding has the severity error, else V(ok).
  returned: success
  type: str
chips:
  description: The chips in the order of the tool's table. What is absent or unreadable is null.
  returned: success
  type: list
  elements: dict
  contains:
    npu_id:
      description: Id of the card; null where the tool printed no first row.
      type: int
    chip_id:
      description: Number of the chip on its card.
      type: int
    phy_id:
      description: Physical id, N of C(/dev/davinciN).
      type: int
    logic_id:
      description: Logical id, by which the runtime counts on this host.
      type: int
    name:
      description: Name as the tool prints it.
      type: str
    generation:
      description: One of 310, 310P, 310B, 910, A2, A3, 950.
      type: str
    health:
      description: One of OK, Warning, Alarm, Critical, UNKNOWN; null where it could not be read.
      type: str
    power_w:
      description: Power in watts.
      type: float
    temperature_c:
      description: Temperature in degrees Celsius.
      type: int
    aicore_percent:
      description: Use of the AI cores in percent.
      type: int
    hbm_used_mb:
      description: High-bandwidth memory in use, in MB. An idle chip shows 3 to 4 GB.
      type: int
    hbm_total_mb:
      description: High-bandwidth memory in MB.
      type: int
    memory_used_mb:
      description: DDR memory in use, in MB.
      type: int
    memory_total_mb:
      description: DDR memory in MB.
      type: int
    bus_id:
      description: PCI address.
      type: str
    processes:
      description: Who holds the chip, with pid (on the host), name, memory_mb, user, command, container, container_id, since (UTC).
      type: list
      elements: dict
findings:
  description: What is wrong or worth knowing, worst first.
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
details:
  description: One entry a chip, with npu_id, chip_id, phy_id and what was asked for (board, ecc, memory, usages) as the tool words it.
  returned: success
  type: list
  elements: dict
causes:
  description: Where the tool showed no chip, the likely causes in order, each with cause, tell (what distinguishes it) and remedy.
  returned: success
  type: list
  elements: dict
tool:
  description: How npu-smi was called, its exit status, its version and the version of the running driver.
  returned: success
  type: dict
versions:
  description: Version, path, state and compatibility ranges of driver, firmware and CANN, and the driver's installation file.
  returned: success
  type: dict
device_nodes:
  description: Physical ids that have a device node.
  returned: success
  type: list
  elements: int
pci_devices:
  description: PCI address to device id of the NPUs on the bus.
  returned: success
  type: dict
actions:
  description: Always empty.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.npu import npu_info
from ansible.module_utils.ascend_fleet.options import NPU


def main() -> None:
    """Run the module."""
    run_module(NPU, npu_info)


if __name__ == "__main__":
    main()
