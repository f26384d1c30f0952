# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens on a TCP port of this host, from /proc alone."""

from __future__ import annotations

import os
from typing import Dict, List, Optional, Sequence

from .host import Host

_LISTEN = "0A"


def listening_inodes(table: str) -> Dict[int, str]:
    """Return port -> socket inode of the listening sockets in the text of /proc/net/tcp or tcp6."""
    found: Dict[int, str] = {}
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            found[int(fields[1].rpartition(":")[2], 16)] = fields[9]
    return found


def taken_ports(host: Host, ports: Sequence[int]) -> List[str]:
    """Return one line for each port that somebody listens on, with the process where it can be seen."""
    inodes: Dict[int, str] = {}
    for table in ("/proc/net/tcp6", "/proc/net/tcp"):
        inodes.update(listening_inodes(host.read_text(table) or ""))
    lines: List[str] = []
    for port in ports:
        if port in inodes:
            owner = _owner(host, inodes[port])
            lines.append(f"port {port} is taken" + (f" by {owner}" if owner else ""))
    return lines


def _owner(host: Host, inode: str) -> Optional[str]:
    wanted = f"socket:[{inode}]"
    for pid in host.list_dir("/proc"):
        if pid.isdigit() and _holds(host, pid, wanted):
            command = (host.read_text(f"/proc/{pid}/cmdline") or "").replace("\0", " ").strip()
            return f"process {pid} ({command[:120]})"
    return None


def _holds(host: Host, pid: str, wanted: str) -> bool:
    folder = f"/proc/{pid}/fd"
    return any(host.read_link(os.path.join(folder, name)) == wanted for name in _files_of(host, folder))


def _files_of(host: Host, folder: str) -> List[str]:
    try:
        return host.list_dir(folder)
    except PermissionError:
        return []
