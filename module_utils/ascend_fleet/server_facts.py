# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts of one job should have in common besides their NPUs: kernel, clock, network interface. Read from /proc and /sys."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence

from .driver_findings import ERROR, Finding
from .host import Host

NET = "/sys/class/net"


@dataclass(frozen=True)
class Interface:
    """A network interface. `mtu` in bytes, `speed_mbps` in Mbit/s (None where the driver does not say, as for virtual ones)."""

    name: str
    state: str
    mtu: Optional[int] = None
    speed_mbps: Optional[int] = None


@dataclass(frozen=True)
class Facts:
    """What was read. `clock_offset_s`: this host's clock minus the controller's, in seconds, None without the latter."""

    kernel: str
    architecture: str
    system: str
    memory_mb: Optional[int]
    clock_offset_s: Optional[float]
    interface: Optional[Interface]
    interfaces: Sequence[str] = field(default_factory=tuple)

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data for the module's result."""
        own = dict(vars(self.interface)) if self.interface else None
        return {**vars(self), "interface": own, "interfaces": list(self.interfaces)}


def read_facts(host: Host, interface: str, sent_at: float, now: Optional[float] = None) -> Facts:
    """Read the facts. `sent_at` is the controller's time when it sent this module off, in seconds since 1970; 0 for unknown."""
    here = time.time() if now is None else now
    names = [name for name in host.list_dir(NET) if name != "lo"]
    return Facts(
        kernel=_line(host, "/proc/sys/kernel/osrelease"),
        architecture=os.uname().machine,
        system=_system(host),
        memory_mb=_memory(host),
        clock_offset_s=round(here - sent_at, 2) if sent_at else None,
        interface=_interface(host, interface) if interface in names else None,
        interfaces=tuple(names),
    )


def _line(host: Host, path: str) -> str:
    """Return a file's text, empty where it cannot be read: the kernel refuses some files of an interface that is down."""
    try:
        return (host.read_text(path) or "").strip()
    except OSError:
        return ""


def _system(host: Host) -> str:
    for line in _line(host, "/etc/os-release").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip().strip('"')
    return ""


def _memory(host: Host) -> Optional[int]:
    for line in _line(host, "/proc/meminfo").splitlines():
        words = line.split()
        if words[:1] == ["MemTotal:"] and len(words) > 1 and words[1].isdecimal():
            return int(words[1]) // 1024
    return None


def _interface(host: Host, name: str) -> Interface:
    state = _line(host, f"{NET}/{name}/operstate") or "unknown"
    return Interface(name, state, _count(host, f"{NET}/{name}/mtu"), _count(host, f"{NET}/{name}/speed"))


def _count(host: Host, path: str) -> Optional[int]:
    text = _line(host, path)
    return int(text) if text.isdecimal() else None


def assess_facts(facts: Facts, interface: str) -> List[Finding]:
    """Return what is wrong with the interface that HCCL and gloo are bound to; everything else is for the comparison of the hosts."""
    if not interface:
        return []
    if facts.interface is None:
        message = f"The network interface {interface} is not there (there are {', '.join(facts.interfaces) or 'none'})."
        remedy = "Set ascend_interface of this host to the one that has its address: `ip -brief address`."
        return [Finding("nic.missing", ERROR, message, remedy)]
    if facts.interface.state in ("down", "lowerlayerdown", "notpresent"):
        message = f"The network interface {interface} is {facts.interface.state}."
        remedy = f"Check its cable and switch port, then `ip link set {interface} up`."
        return [Finding("nic.down", ERROR, message, remedy)]
    return []
