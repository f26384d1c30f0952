# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a server: its device nodes, the processes that hold them, and the namespaces those live in.

Every function takes the root directory of the server, so that a test can lay out a server of its own.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Set

_NODE = re.compile(r"/dev/davinci(\d+)(?: \(deleted\))?")
MANAGERS = ("davinci_manager", "devmm_svm", "hisi_hdc")
# CAP_SYS_ADMIN in the mask of /proc/<pid>/status: what tells a privileged container from an ordinary one.
_SYS_ADMIN = 1 << 21


@dataclass(frozen=True)
class Holder:
    """A process that has an NPU's node open. `namespace` is its mount namespace, `memory` its resident MB."""

    pid: int
    namespace: str
    memory: int
    cpu_percent: int


def present_npus(root: Path, pid: int) -> List[int]:
    """Physical ids of the NPUs whose nodes the process `pid` can see, ascending; empty without the manager nodes."""
    try:
        names = set(os.listdir(_seen_root(root, pid) / "dev"))
    except OSError:
        return []
    if not names.issuperset(MANAGERS):
        return []
    return sorted(int(name[len("davinci") :]) for name in names if re.fullmatch(r"davinci\d+", name))


def _seen_root(root: Path, pid: int) -> Path:
    """The root directory as that process sees it."""
    return root / "proc" / str(pid) / "root"


def namespace(root: Path, pid: int) -> Optional[str]:
    """A process's mount namespace, None when the process is gone."""
    try:
        return os.readlink(root / "proc" / str(pid) / "ns" / "mnt")
    except OSError:
        return None


def is_privileged(root: Path, pid: int) -> bool:
    """True when the process may administer the machine (a --privileged container, or the host itself)."""
    return bool(int(_status(root, pid).get("CapEff", "0"), 16) & _SYS_ADMIN)


def holders(root: Path) -> Dict[int, List[Holder]]:
    """Processes that hold nodes, by physical NPU id, each list ascending by pid."""
    found: Dict[int, List[Holder]] = {}
    for pid in _pids(root):
        for npu in sorted(_held(root, pid)):
            place = namespace(root, pid)
            if place is not None:
                found.setdefault(npu, []).append(Holder(pid, place, _resident_mb(root, pid), _cpu_percent(root, pid)))
    return found


def _pids(root: Path) -> Iterator[int]:
    yield from sorted(int(name) for name in os.listdir(root / "proc") if name.isdigit())


def _held(root: Path, pid: int) -> Set[int]:
    """Physical ids of the nodes that a process has open; a process that ends meanwhile holds none."""
    directory = root / "proc" / str(pid) / "fd"
    held = set()
    try:
        for name in os.listdir(directory):
            match = _NODE.fullmatch(os.readlink(directory / name))
            if match:
                held.add(int(match.group(1)))
    except OSError:
        pass
    return held


def _status(root: Path, pid: int) -> Dict[str, str]:
    """/proc/<pid>/status as a dictionary, empty when the process is gone."""
    try:
        text = (root / "proc" / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _resident_mb(root: Path, pid: int) -> int:
    words = _status(root, pid).get("VmRSS", "0 kB").split()
    return int(words[0]) // 1024


def _cpu_percent(root: Path, pid: int) -> int:
    """Share of one processor that the process has used since it began, 0 to 100."""
    try:
        fields = (root / "proc" / str(pid) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        uptime = float((root / "proc" / "uptime").read_text(encoding="utf-8").split()[0])
    except (OSError, IndexError):
        return 0
    ticks = os.sysconf("SC_CLK_TCK")
    age = uptime - int(fields[19]) / ticks
    used = (int(fields[11]) + int(fields[12])) / ticks
    return min(100, int(100 * used / age)) if age > 0 else 0
