# SPDX-License-Identifier: GPL-3.0-or-later
"""The NPUs' addresses made real: each answers on the lab's network while its link is up.

They are put on the loopback interface, where the host's own addresses do not show them, as an NPU's do not show on a
real host; the kernel answers for them on the bridge all the same.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Dict, Optional, Set, Tuple

from lab_driver import machine, settings
from lab_driver.settings import Faults

INTERFACE = "lo"
LABEL = "lo:npu"


def wanted(root: Path, host: int = 1) -> Set[str]:
    """Addresses that should answer: of NPUs that are present, not dropped, with their link up."""
    try:
        faults = Faults.of(root)
    except ValueError as error:
        print(f"lab driver: {error}", flush=True)
        faults = Faults({})
    found = set()
    for npu in machine.present_npus(root, host):
        fault: Dict[str, object] = {**settings.network(root, npu), **faults.npu(npu)}
        if not fault.get("dropped") and fault.get("link", "UP") == "UP" and "address" in fault:
            found.add(str(fault["address"]))
    return found


def current() -> Set[str]:
    """Addresses that an earlier look put there."""
    listed = subprocess.run(
        ["ip", "-json", "-4", "address", "show", "dev", INTERFACE], stdout=subprocess.PIPE, check=True
    )
    rows = json.loads(listed.stdout)[0].get("addr_info", [])
    return {row["local"] for row in rows if row.get("label") == LABEL}


class Keeper:
    """Applies the addresses again whenever a file or a node that decides them has changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._applied: Optional[Tuple[object, ...]] = None

    def look(self) -> None:
        """Look once; costs three file look-ups where nothing changed."""
        seen = (
            _stamp(self._root / settings.STATE),
            _stamp(self._root / "etc/hccn.conf"),
            tuple(machine.present_npus(self._root, 1)),
        )
        if seen != self._applied:
            apply(self._root)
            self._applied = seen


def _stamp(path: Path) -> Tuple[int, int]:
    """A file's modification time and size, zeros when it is missing."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def apply(root: Path) -> None:
    """Add and remove what differs; a failure is noted."""
    should, have = wanted(root), current()
    for address in sorted(should - have):
        _change("add", address)
    for address in sorted(have - should):
        _change("del", address)


def _change(verb: str, address: str) -> None:
    argv = ["ip", "address", verb, f"{address}/32", "dev", INTERFACE, "label", LABEL]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        print(f"lab driver: {' '.join(argv)}: {done.stdout.decode(errors='replace').strip()}", flush=True)
