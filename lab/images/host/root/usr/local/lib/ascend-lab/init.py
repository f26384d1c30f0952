#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first process of a lab host: prepares it, starts its services, reaps orphans, ends everything on SIGTERM.

Services are the executable files in /usr/local/lib/ascend-lab/services, preparations those in prepare, each in
the order of its name. A service that ends is not restarted: a host without its Docker daemon is a case to test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Dict, List, Optional

HOME = Path("/usr/local/lib/ascend-lab")
LOGS = Path("/var/log/ascend-lab")
STOP_SECONDS = 10.0


def programs(kind: str) -> List[Path]:
    """Executable files of one kind, in the order of their names."""
    directory = HOME / kind
    return sorted(path for path in directory.glob("*") if os.access(path, os.X_OK)) if directory.is_dir() else []


def prepare() -> None:
    """Run every preparation; one that fails ends the host, which says so in its log."""
    for program in programs("prepare"):
        status = subprocess.run([str(program)], check=False).returncode
        if status:
            sys.exit(f"init: {program} ended with status {status}")


def start_services() -> Dict[int, str]:
    """Start every service in a session of its own; return the name of each pid."""
    LOGS.mkdir(parents=True, exist_ok=True)
    started = {}
    for program in programs("services"):
        with (LOGS / f"{program.name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(program)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        started[process.pid] = program.name
    return started


def reap_until_stopped(services: Dict[int, str]) -> None:
    """Wait for children until SIGTERM arrives; note which service ended."""
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            signal.pause()
            continue
        if pid in services:
            print(f"init: service {services.pop(pid)} ended with wait status {status}", flush=True)


def stop(_signal: int, _frame: Optional[FrameType]) -> None:
    """End every process of this host, first asking, then not."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(-1, number)
        except ProcessLookupError:
            break
        end = time.monotonic() + STOP_SECONDS
        while time.monotonic() < end:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(0)
            if not pid:
                time.sleep(0.05)
    os._exit(0)


def main() -> None:
    """Prepare, start, reap."""
    signal.signal(signal.SIGTERM, stop)
    prepare()
    reap_until_stopped(start_services())


if __name__ == "__main__":
    main()
