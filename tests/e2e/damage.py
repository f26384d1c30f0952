# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to damage what lies on a lab host, as disks, people and broken connections do it."""

from __future__ import annotations

import shlex

from tests.e2e.conftest import WORK_ROOT, on_host

_FLIP = """
import os, sys
path, keep_time = sys.argv[1], sys.argv[2] == "keep"
found = os.stat(path)
with open(path, "r+b") as stream:
    stream.seek(-1, os.SEEK_END)
    last = stream.read(1)[0]
    stream.seek(-1, os.SEEK_END)
    stream.write(bytes([last ^ 1]))
if keep_time:
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
"""


def real(host: str, path: str) -> str:
    """Return a path below the work root with its links followed."""
    return on_host(host, f"readlink -f {WORK_ROOT}/{path}").strip()


def remove(host: str, path: str) -> None:
    """Delete a file below the work root."""
    on_host(host, f"rm {WORK_ROOT}/{path}")


def flip(host: str, path: str, keep_time: bool = False) -> None:
    """Flip one bit of a file below the work root; the file gets a new time unless the old one is kept."""
    words = ["python3", "-c", _FLIP, f"{WORK_ROOT}/{path}", "keep" if keep_time else "touch"]
    on_host(host, " ".join(map(shlex.quote, words)))


def cut(host: str, path: str) -> None:
    """Cut a file off after its first half."""
    on_host(host, f'f={path}; truncate -s $(( $(stat -c %s "$f") / 2 )) "$f"')


def interrupt(host: str, stage: str, half: str) -> None:
    """Bring an artifact to where a first transfer was interrupted: a sibling that is half written, and nothing in use."""
    name = on_host(host, f"readlink {WORK_ROOT}/{stage}/current").strip()
    on_host(
        host, f"cd {WORK_ROOT}/{stage} && rm current && mv {name} .{name}.partial && rm .{name}.partial/receipt.json"
    )
    cut(host, f"{WORK_ROOT}/{stage}/.{name}.partial/{half}")
