# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything npu_info looks at on one host, gathered once. No judgement here: that is npu_assess.py, which has no effects."""

from __future__ import annotations

import grp
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .host import Host
from .npu_ask import WORKERS, ToolRun, Unanswered, ask, unanswered
from .npu_holders import Holders, Owner, describe, open_npus
from .npu_smi import Chip, Table, parse_info
from .npu_smi_errors import Evidence
from .npu_smi_lists import Health, Mapped, parse_health, parse_mapping
from .version_files import Versions, read_versions

_NODE = re.compile(r"davinci([0-9]{1,4})")
_HUAWEI = "0x19e5"
# PCI device ids of NPUs and the generation they tell; a network card of the same vendor is none of them.
GENERATIONS = {"0xd100": "310", "0xd500": "310P", "0xd801": "910", "0xd802": "A2", "0xd803": "A3", "0xd806": "950"}


@dataclass(frozen=True)
class Node:
    """A name /dev/davinciN. `is_device` is False for what Docker leaves when it mounts a missing path."""

    phy_id: int
    is_device: bool
    device_number: int


@dataclass(frozen=True)
class Survey:
    """What was seen."""

    run: ToolRun
    table: Table
    mapping: Tuple[Mapped, ...]
    health: Dict[Tuple[int, int], Health]
    nodes: Tuple[Node, ...]
    pci: Dict[str, str]  # bus id in lower case -> device id
    holders: Holders
    owners: Dict[int, Owner]
    versions: Versions
    evidence: Evidence = field(default_factory=Evidence)
    unanswered: Tuple[Unanswered, ...] = ()  # queries beside the table's that left nothing to read


def survey(host: Host, params: Dict[str, Any]) -> Survey:
    """Look at everything. `npu_smi`, `docker_cli`: programs; `timeout`: seconds for each call."""
    nodes = device_nodes(host)
    tool = host.which(params["npu_smi"])
    holders = open_npus(host, _device_numbers(nodes))
    run, asked = _ask_both(host, tool, params)
    table, mapping = parse_info(run.text), parse_mapping(asked.text) if asked else ()
    pids = sorted({pid for found in holders.by_npu.values() for pid in found} | {row.pid for row in table.processes})
    owners = describe(host, pids, params["docker_cli"], params["timeout"])
    versions, pci = read_versions(host), pci_devices(host)
    health, silent = _health(host, tool, table, params["timeout"]) if tool else ({}, [])
    if asked and table.chips and not mapping:
        silent.append(unanswered(asked, "map", None))
    evidence = _evidence(host, nodes, pci, owners, versions)
    left = tuple(item for item in silent if item)
    return Survey(run, table, mapping, health, nodes, pci, holders, owners, versions, evidence, left)


def _ask_both(host: Host, tool: Optional[str], params: Dict[str, Any]) -> Tuple[ToolRun, Optional[ToolRun]]:
    """Ask for the table and the mapping side by side."""
    if tool is None:
        argv = (params["npu_smi"], "info")
        return ToolRun(argv, failure="missing", message=_why_no_tool(host, params["npu_smi"])), None
    with ThreadPoolExecutor(WORKERS) as pool:
        info = pool.submit(ask, host, [tool, "info"], params["timeout"])
        mapping = pool.submit(ask, host, [tool, "info", "-m"], params["timeout"])
        return info.result(), mapping.result()


def _why_no_tool(host: Host, name: str) -> str:
    """Tell a tool that is not there from what stands in its place."""
    for path in [name] if "/" in name else [f"/usr/local/{folder}/{name}" for folder in ("sbin", "bin")]:
        if host.is_dir(path):
            return f"{path} is a directory (Docker makes one when it mounts a file that is not there)"
        if host.is_file(path):
            return f"{path} cannot be executed by this user"
    return f"{name} is not on this host"


def _health(
    host: Host, tool: str, table: Table, timeout: float
) -> Tuple[Dict[Tuple[int, int], Health], List[Optional[Unanswered]]]:
    """Ask each chip for its health by itself: where that query fails inside the table, the table prints OK."""
    places = sorted({place for place in map(_place, table.chips) if place})
    with ThreadPoolExecutor(WORKERS) as pool:
        asked = [(place, pool.submit(ask, host, _health_argv(tool, place), timeout)) for place in places]
        answers = [(place, future.result(), parse_health(future.result().text)) for place, future in asked]
    silent = [unanswered(run, "health", place) for place, run, health in answers if not health]
    return {place: health for place, _, health in answers if health}, silent


def _place(chip: Chip) -> Optional[Tuple[int, int]]:
    return None if chip.npu_id is None or chip.chip_id is None else (chip.npu_id, chip.chip_id)


def _health_argv(tool: str, place: Tuple[int, int]) -> List[str]:
    return [tool, "info", "-t", "health", "-i", str(place[0]), "-c", str(place[1])]


def device_nodes(host: Host) -> Tuple[Node, ...]:
    """Return the nodes /dev/davinciN."""
    nodes = []
    for name in host.list_dir("/dev"):
        found = _NODE.fullmatch(name)
        status = host.stat(f"/dev/{name}") if found else None
        if found and status:
            nodes.append(Node(int(found.group(1)), stat.S_ISCHR(status.st_mode), status.st_rdev))
    return tuple(sorted(nodes, key=lambda node: node.phy_id))


def _device_numbers(nodes: Sequence[Node]) -> Dict[int, int]:
    """Return device number -> physical id where every node has a number of its own."""
    numbers = {node.device_number: node.phy_id for node in nodes if node.is_device}
    return numbers if len(numbers) == len(nodes) else {}


def pci_devices(host: Host) -> Dict[str, str]:
    """Return the NPUs on the PCI bus, read from sysfs, where `lspci` reads them too."""
    root, found = "/sys/bus/pci/devices", {}
    for bus in host.list_dir(root):
        if (host.read_text(f"{root}/{bus}/vendor") or "").strip() == _HUAWEI:
            device = (host.read_text(f"{root}/{bus}/device") or "").strip()
            found.update({bus.lower(): device} if device in GENERATIONS else {})
    return found


def _evidence(
    host: Host, nodes: Sequence[Node], pci: Dict[str, str], owners: Dict[int, Owner], versions: Versions
) -> Evidence:
    """Collect what tells the causes of one error text apart."""
    return Evidence(
        is_root=os.geteuid() == 0,
        in_group=_in_group("HwHiAiUser"),
        nodes=len(nodes),
        pci_devices=len(pci),
        holders=tuple(sorted({who(owner) for owner in owners.values()})),
        driver_installed=versions.driver.state in ("ok", "closed"),
        in_container=host.is_file("/.dockerenv") or host.is_file("/run/.containerenv"),
    )


def who(owner: Owner) -> str:
    """Return a holder for a message."""
    place = f"container {owner.container}, " if owner.container else ""
    since = f", since {owner.since}" if owner.since else ""
    return f"pid {owner.pid} ({place}user {owner.user}, {owner.command or owner.name!r}{since})"


def _in_group(name: str) -> bool:
    try:
        return grp.getgrnam(name).gr_gid in os.getgroups()
    except KeyError:
        return False
