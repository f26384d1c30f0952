# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has an NPU open: found in /proc, where the driver's own list shows a bare process id or nothing at all."""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Callable, Dict, List, Optional, Tuple, TypeVar

from .errors import CommandError
from .host import Host

_DEVICE = re.compile(r"/dev/davinci([0-9]{1,4})(?: \(deleted\))?")
_CONTAINER = re.compile(r"[0-9a-f]{64}")
_COMMAND_LENGTH = 200  # characters of a command line that are worth showing

T = TypeVar("T")


@dataclass(frozen=True)
class Owner:
    """A process as /proc shows it. `container` is its name, or the short id where no name is known; `since` is UTC."""

    pid: int
    user: Optional[str]
    command: str
    name: str
    container: Optional[str]
    container_id: Optional[str]
    since: Optional[str]


@dataclass(frozen=True)
class Holders:
    """Processes by the physical id of the NPU that they have open, and how many processes could not be looked at."""

    by_npu: Dict[int, Tuple[int, ...]] = field(default_factory=dict)
    unreadable: int = 0


def open_npus(host: Host, device_numbers: Dict[int, int]) -> Holders:
    """Look through the open files of every process.

    `device_numbers` (device number -> physical id) names the NPU behind a node that a container calls differently; it is used
    only where every node has a device number of its own.
    """
    found: Dict[int, List[int]] = {}
    unreadable = 0
    for name in host.list_dir("/proc"):
        if not name.isdecimal():
            continue  # not a process
        try:
            files = host.list_dir(f"/proc/{name}/fd")
        except PermissionError:
            unreadable += 1
            continue
        except OSError:
            continue  # it has just ended
        for npu in {_npu(host, f"/proc/{name}/fd/{file}", device_numbers) for file in files} - {-1}:
            found.setdefault(npu, []).append(int(name))
    return Holders({npu: tuple(sorted(pids)) for npu, pids in found.items()}, unreadable)


def _npu(host: Host, path: str, device_numbers: Dict[int, int]) -> int:
    """Return the physical id behind an open file, -1 where it is none."""
    link = _DEVICE.fullmatch(host.read_link(path) or "")
    if not link:
        return -1
    status = _quiet(lambda: host.stat(path), None)
    return device_numbers.get(status.st_rdev, int(link.group(1))) if status else int(link.group(1))


def describe(host: Host, pids: List[int], docker_cli: str, timeout: float) -> Dict[int, Owner]:
    """Say who the processes are; one that has ended or belongs to another pid namespace is left out."""
    own = _container_of(host, "self")
    containers = {pid: _container_of(host, str(pid)) for pid in pids}
    # The server may itself run in a container: its own id is then in the path of every process.
    inside = {pid: found for pid, found in containers.items() if found and found != own}
    names = _container_names(host, docker_cli, timeout) if inside else {}
    boot = _boot_time(host)
    owners = (_owner(host, pid, inside.get(pid), names, boot) for pid in pids)
    return {owner.pid: owner for owner in owners if owner}


def _owner(
    host: Host, pid: int, container: Optional[str], names: Dict[str, str], boot: Optional[int]
) -> Optional[Owner]:
    status = _quiet(lambda: host.stat(f"/proc/{pid}"), None)
    if status is None:
        return None
    name = (_read(host, f"/proc/{pid}/comm") or "").strip()
    command = " ".join((_read(host, f"/proc/{pid}/cmdline") or "").replace("\0", " ").split())
    shown = (names.get(container) or container[:12]) if container else None
    since = _started(_read(host, f"/proc/{pid}/stat"), boot)
    return Owner(pid, _user(status.st_uid), (command or name)[:_COMMAND_LENGTH], name, shown, container, since)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)  # a user of a container


def _container_of(host: Host, process: str) -> Optional[str]:
    """Return the innermost container id in a process's control groups."""
    for line in (_read(host, f"/proc/{process}/cgroup") or "").splitlines():
        ids = _CONTAINER.findall(line)
        if ids:
            return str(ids[-1])
    return None


def _container_names(host: Host, docker_cli: str, timeout: float) -> Dict[str, str]:
    """Ask the container engine for names; without an answer the ids have to do."""
    try:
        done = host.run(
            [docker_cli, "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"], check=False, timeout=timeout
        )
    except CommandError:
        return {}
    pairs = (line.split(None, 1) for line in done.stdout.splitlines()) if done.rc == 0 else iter(())
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def _boot_time(host: Host) -> Optional[int]:
    found = re.search(r"^btime ([0-9]+)$", _read(host, "/proc/stat") or "", re.MULTILINE)
    return int(found.group(1)) if found else None


def _started(stat: Optional[str], boot: Optional[int]) -> Optional[str]:
    """Return when a process started; the 22nd field of its stat, counted behind the name, which may contain anything."""
    fields = (stat or "").rpartition(")")[2].split()
    if boot is None or len(fields) < 20 or not fields[19].isdecimal():
        return None
    seconds = boot + int(fields[19]) // os.sysconf("SC_CLK_TCK")
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(host: Host, path: str) -> Optional[str]:
    return _quiet(lambda: host.read_text(path), None)


def _quiet(read: Callable[[], T], otherwise: T) -> T:
    """Read from /proc: a process may end, or belong to somebody else, between two looks."""
    try:
        return read()
    except OSError:
        return otherwise
