# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies on a lab host and on the controller, whole: files with inode, time and content, containers and images."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tests.conftest import ROOT

# Runs on the host. Directories are known by their names, links by where they lead; logs are nobody's promise.
_PROGRAM = """
import hashlib, json, os, stat, subprocess, sys
files = {}
def note(path):
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        files[path] = ["link", 0, found.st_ino, os.readlink(path)]
    elif stat.S_ISDIR(found.st_mode):
        files[path] = ["directory", 0, 0, ""]
    else:
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
        files[path] = ["file", found.st_mtime_ns, found.st_ino, digest.hexdigest()]
for root in sys.argv[1:]:
    if os.path.lexists(root):
        note(root)
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "logs" or "/run/" not in folder]
        for name in folders + names:
            note(os.path.join(folder, name))
def engine(*arguments):
    return sorted(subprocess.run(["docker", *arguments], stdout=subprocess.PIPE, check=True, text=True).stdout.split())
has_engine = os.path.exists("/var/run/docker.sock")
containers = engine("ps", "--all", "--quiet", "--no-trunc") if has_engine else []
started = engine("inspect", "--format", "{{.Id}}@{{.State.StartedAt}}", *containers) if containers else []
images = engine("image", "ls", "--all", "--quiet", "--no-trunc") if has_engine else []
print(json.dumps({"files": files, "containers": started, "images": images}))
"""


class File(NamedTuple):
    """An entry of a file system. `content` is a digest, or where a link leads."""

    kind: str
    mtime_ns: int
    inode: int
    content: str


@dataclass(frozen=True)
class Snapshot:
    """One machine at one moment. `containers` are ids with the time of their start."""

    files: Mapping[str, File]
    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()

    def below(self, *folders: str) -> dict[str, File]:
        """Return the entries below these directories."""
        return {path: file for path, file in self.files.items() if path.startswith(tuple(f"{f}/" for f in folders))}

    def contents(self, *folders: str) -> dict[str, str]:
        """Return path -> digest of the files below these directories, receipts and other records left out."""
        return {
            path: file.content
            for path, file in self.below(*folders).items()
            if file.kind == "file" and not path.endswith("/receipt.json")
        }


def take(on_host: Callable[[str, str], str], host: str, roots: Iterable[str]) -> Snapshot:
    """Look at a lab host."""
    words = ["python3", "-c", _PROGRAM, *roots]
    found = json.loads(on_host(host, " ".join(map(shlex.quote, words))))
    files = {path: File(*entry) for path, entry in found["files"].items()}
    return Snapshot(files, tuple(found["containers"]), tuple(found["images"]))


def take_controller() -> Snapshot:
    """Look at what a run writes beside the playbooks; its report is a log and always new."""
    files = {}
    for path in sorted((ROOT / "reports").glob("plan*")):
        found = path.stat()
        files[str(path)] = File("file", found.st_mtime_ns, found.st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
    return Snapshot(files)
