# SPDX-License-Identifier: GPL-3.0-or-later
"""Which NPUs this process sees, and holding the one it works on.

A card is a node davinci<physical id> under /dev. As behind the real driver, logical ids are dense, in ascending
physical order over the nodes that can be opened, and ASCEND_RT_VISIBLE_DEVICES picks among logical ids.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

DEVICE_ROOT_VARIABLE = "ASCEND_LAB_DEV_ROOT"  # tests put their nodes elsewhere
VISIBLE_VARIABLE = "ASCEND_RT_VISIBLE_DEVICES"
_NODE = re.compile(r"davinci(\d+)")
# What a loaded Ascend driver leaves in the kernel's tables; containers see the host's.
_DRIVER_DEVICES = ("davinci_manager", "devmm_svm", "hisi_hdc", "devdrv-cdev")
_DRIVER_MODULES = ("drv_davinci_intf", "drv_devmng_host", "drv_pcie_host", "drv_svm")

_held: dict[int, int] = {}  # logical id -> open file descriptor
_current: int = 0


class DeviceError(RuntimeError):
    """A device id that this process cannot use."""


def real_driver_sign() -> str | None:
    """Return what shows that a real NPU driver is loaded on this machine, or None."""
    for module in _DRIVER_MODULES:
        if Path("/sys/module", module).exists():
            return f"/sys/module/{module}"
    try:
        table = Path("/proc/devices").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    names = {line.split()[1] for line in table.splitlines() if len(line.split()) == 2}
    found = sorted(names.intersection(_DRIVER_DEVICES))
    return f"{found[0]} in /proc/devices" if found else None


def _can_open(node: Path) -> bool:
    try:
        os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def accessible_nodes() -> list[Path]:
    """Return the nodes that can be opened, in ascending physical order: the list index is the logical id."""
    root = Path(os.environ.get(DEVICE_ROOT_VARIABLE, "/dev"))
    if not root.is_dir():
        return []
    matches = [(_NODE.fullmatch(node.name), node) for node in root.iterdir()]
    found = sorted((int(match.group(1)), node) for match, node in matches if match)
    return [node for _, node in found if _can_open(node)]


def visible_nodes() -> list[Path]:
    """Return the nodes of this process in the order it numbers them; an entry that is no logical id ends the list."""
    nodes = accessible_nodes()
    wanted = os.environ.get(VISIBLE_VARIABLE)
    if wanted is None:
        return nodes
    chosen: list[Path] = []
    for entry in wanted.split(","):
        if not entry.strip().isdigit() or int(entry) >= len(nodes) or nodes[int(entry)] in chosen:
            break
        chosen.append(nodes[int(entry)])
    return chosen


def hold(index: int) -> None:
    """Make `index` the current device and keep its node open until the process ends.

    Raises DeviceError (with the runtime's code) when this process has no such device.
    """
    global _current
    nodes = visible_nodes()
    if not 0 <= index < len(nodes):
        raise DeviceError(
            f"NPU function error: aclrtSetDevice({index}), error code is 107001: invalid device ID, "
            f"this process sees {len(nodes)} device(s); check {VISIBLE_VARIABLE} and the container's --device list"
        )
    if index not in _held:
        _held[index] = os.open(nodes[index], os.O_RDWR | os.O_CLOEXEC)
    _current = index


def current() -> int:
    """Return the logical id that set_device chose last (0 before any call)."""
    return _current


def name_of(index: int) -> str:
    """Return a name for the device: the physical node it stands for."""
    return f"CPU stand-in for {visible_nodes()[index].name}"
