# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command and measure its wall time, its processor time and the peak memory of all its processes together."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.05  # seconds between two looks at the memory


@dataclass(frozen=True)
class Measured:
    """``wall`` and ``cpu`` in seconds, ``peak`` in bytes: proportional set size, summed over all processes of the session."""

    wall: float
    cpu: float
    peak: int
    status: int
    stdout: str
    stderr: str

    def line(self) -> str:
        """Return the figures for people."""
        return f"{self.wall:7.2f} s wall {self.cpu:7.2f} s cpu {self.peak / 2**30:6.2f} GiB peak"


def measure(
    argv: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None, limit: float = 900
) -> Measured:
    """Run ``argv`` in a session of its own; it is ended after ``limit`` seconds."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        process = subprocess.Popen(
            list(argv), cwd=cwd, env={**os.environ, **(env or {})}, stdout=out, stderr=err, start_new_session=True
        )
        peak = 0
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, session_pss(process.pid))
            if time.monotonic() - start > limit:
                os.killpg(process.pid, 9)
            time.sleep(INTERVAL)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        printed, complained = out.read().decode(errors="replace"), err.read().decode(errors="replace")
    return Measured(wall, usage.ru_utime + usage.ru_stime, peak, process.returncode, printed, complained)


def session_pss(session: int) -> int:
    """Bytes: what the processes of a session hold, shared pages divided among those that share them."""
    return sum(_pss(pid) for pid in _members(session))


def _members(session: int) -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended between the two looks
            if int(fields[3]) == session:
                yield int(entry)


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def machine() -> str:
    """One line about where this was measured."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model name")):
            model = line.partition(":")[2].strip()
            break
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} x {model}, {pages / 2**30:.0f} GiB, load {load:.1f}, Python {platform.python_version()}"
