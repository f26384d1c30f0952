# SPDX-License-Identifier: GPL-3.0-or-later
"""A model in a local git clone, with git-lfs or without: its files at a commit, by the digests that git itself keeps."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Optional, Tuple

from .errors import InputError, ProblemsError
from .git import Git
from .host import Host
from .mirror_listing import GIT_BLOB, SHA256, Listing, RemoteFile, first_match
from .weights_check import LFS_MARK, LFS_POINTER_LIMIT

_POINTER = re.compile(r"^oid sha256:([0-9a-f]{64})\nsize (\d+)$", re.MULTILINE)


class Clone:
    """A clone on this machine."""

    def __init__(self, host: Host, path: str) -> None:
        self.host = host
        self.path = path.rstrip("/")
        self.git = Git(host, os.path.dirname(self.path))

    def listing(self, revision: str) -> Listing:
        """Return the files of a revision; of a git-lfs file the digest of the file itself, not that of its pointer."""
        done = self.git.run(self.path, ["rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], check=False)
        if done.rc != 0:
            raise InputError(f"{self.path} is no git clone that has {revision}.", "Check the path and the revision.")
        commit = done.stdout.strip()
        records = self.git.run(self.path, ["ls-tree", "-r", "-z", "-l", commit]).stdout.split("\0")
        return Listing(commit, [self._file(record) for record in records if record])

    def _file(self, record: str) -> RemoteFile:
        """Read `mode type blob size TAB path`."""
        facts, path = record.split("\t", 1)
        _, kind, blob, size = facts.split()
        if kind != "blob":
            raise InputError(f"{self.path} has a submodule at {path}.", "Give the clone of the model itself.")
        pointer = self._pointer(blob) if int(size) < LFS_POINTER_LIMIT else None
        return RemoteFile(path, *pointer) if pointer else RemoteFile(path, int(size), GIT_BLOB, blob)

    def _pointer(self, blob: str) -> Optional[Tuple[int, str, str]]:
        text = self.git.run(self.path, ["cat-file", "blob", blob]).stdout
        found = _POINTER.search(text) if text.startswith(LFS_MARK) else None
        return (int(found.group(2)), SHA256, found.group(1)) if found else None

    def places(self, files: List[RemoteFile]) -> Dict[str, str]:
        """Return path -> where the clone has the file itself; ProblemsError names all that it does not have."""
        found = {file.path: first_match(self.host, self._candidates(file), file) for file in files}
        problems = [self._problem(file) for file in files if found[file.path] is None]
        if problems:
            raise ProblemsError(
                problems, f"Run `git lfs install && git lfs pull && git checkout .` in {self.path}, and again."
            )
        return {path: place for path, place in found.items() if place}

    def _candidates(self, file: RemoteFile) -> List[str]:
        stored = os.path.join(self.path, ".git", "lfs", "objects", file.digest[:2], file.digest[2:4], file.digest)
        return [os.path.join(self.path, file.path), *([stored] if file.algorithm == SHA256 else [])]

    def _problem(self, file: RemoteFile) -> str:
        path = os.path.join(self.path, file.path)
        found = self.host.stat(path)
        if found is None:
            return f"{path} is not checked out"
        if found.st_size < LFS_POINTER_LIMIT and (self.host.read_text(path) or "").startswith(LFS_MARK):
            return f"{path} is a git-lfs pointer of {found.st_size} bytes and not the file itself"
        return f"{path} has another content than the commit ({file.algorithm} {file.digest}, {file.size} bytes)"
