# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a model at one revision, each with the digest that its origin gives for it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import List, Optional, Sequence

from .host import HASH_CHUNK, Host

SHA256, GIT_BLOB = "sha256", "git-blob"  # of large files, and of those that git itself keeps


@dataclass(frozen=True)
class RemoteFile:
    """A file as its origin describes it; `size` in bytes."""

    path: str
    size: int
    algorithm: str
    digest: str


@dataclass(frozen=True)
class Listing:
    """All files of a model at a commit."""

    commit: str
    files: Sequence[RemoteFile]

    def select(self, exclude: Sequence[str]) -> List[RemoteFile]:
        """Return the files that none of the patterns names."""
        return [file for file in self.files if not any(fnmatch(file.path, pattern) for pattern in exclude)]


def digest_of(host: Host, path: str, algorithm: str) -> str:
    """Return a file's digest in hexadecimal, the way its origin computes it."""
    if algorithm == SHA256:
        return host.sha256(path)
    digest = hashlib.sha1(b"blob %d\0" % os.path.getsize(path))  # git's own; nobody's secret depends on it
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(HASH_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def matches(host: Host, path: str, file: RemoteFile) -> bool:
    """Say whether a local file is this one, byte for byte."""
    found = host.stat(path)
    if found is None or found.st_size != file.size or not host.is_file(path):
        return False
    return digest_of(host, path, file.algorithm) == file.digest


def first_match(host: Host, paths: Sequence[str], file: RemoteFile) -> Optional[str]:
    """Return the first of several paths at which the file is."""
    return next((path for path in paths if matches(host, path, file)), None)
