# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests: which files an artifact consists of, with size, time and content hash, and how a directory differs from that."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .errors import InputError
from .host import Host

VERIFY_CHOICES = ("stat", "content")


@dataclass(frozen=True)
class FileEntry:
    """One file: size in bytes, modification time in ns since the epoch, SHA-256 in hexadecimal."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Differences:
    """How a directory differs from its manifest, as sorted relative paths."""

    missing: Sequence[str] = ()
    changed: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed)

    def lines(self) -> List[str]:
        """Return one readable line a file."""
        return [f"missing: {path}" for path in self.missing] + [f"changed: {path}" for path in self.changed]


@dataclass(frozen=True)
class Manifest:
    """Files of an artifact by path relative to its directory."""

    files: Mapping[str, FileEntry]

    @property
    def total_bytes(self) -> int:
        """Sum of all file sizes in bytes."""
        return sum(entry.size for entry in self.files.values())

    def contents(self) -> Dict[str, str]:
        """Return path -> SHA-256: what identifies the artifact wherever it lies."""
        return {path: entry.sha256 for path, entry in sorted(self.files.items())}

    def select(self, patterns: Sequence[str]) -> Manifest:
        """Return the part whose paths match one of the patterns (fnmatch); no pattern selects everything."""
        if not patterns:
            return self
        return Manifest({path: entry for path, entry in self.files.items() if _matches(path, patterns)})

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data for JSON."""
        return {
            path: {"size": entry.size, "mtime_ns": entry.mtime_ns, "sha256": entry.sha256}
            for path, entry in sorted(self.files.items())
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, Any]]) -> Manifest:
        """Read what as_dict gave; raises InputError where that is not what it is given."""
        try:
            return cls(
                {
                    path: FileEntry(int(entry["size"]), int(entry["mtime_ns"]), str(entry["sha256"]))
                    for path, entry in data.items()
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"A manifest is damaged ({error!r}).", "Remove the receipt that holds it.") from error


def scan(
    host: Host, root: str, patterns: Sequence[str] = (), known: Optional[Manifest] = None, ignore: Sequence[str] = ()
) -> Manifest:
    """Make the manifest of a directory; a file whose size and time equal `known` keeps the hash from there."""
    files: Dict[str, FileEntry] = {}
    for path, found in host.walk_files(root):
        if (patterns and not _matches(path, patterns)) or _matches(path, ignore):
            continue
        old = known.files.get(path) if known else None
        same = old is not None and (old.size, old.mtime_ns) == (found.st_size, found.st_mtime_ns)
        files[path] = FileEntry(found.st_size, found.st_mtime_ns, old.sha256 if old is not None and same else "")
    digests = host.sha256_of([os.path.join(root, path) for path, entry in files.items() if not entry.sha256])
    return Manifest(
        {
            path: replace(entry, sha256=entry.sha256 or digests[os.path.join(root, path)])
            for path, entry in files.items()
        }
    )


def compare(host: Host, root: str, manifest: Manifest, verify: str = "stat") -> Differences:
    """Look whether the files of a manifest are there unchanged: by size and time, or with `content` by hash.

    A file whose time alone differs is hashed before it is called changed, so that a restored backup is not copied again.
    Files that the manifest does not name are nobody's business here.
    """
    missing: List[str] = []
    changed: List[str] = []
    doubtful: Dict[str, str] = {}
    for path, entry in manifest.files.items():
        full = os.path.join(root, path)
        found = host.stat(full)
        if found is None or not host.is_file(full):
            missing.append(path)
        elif found.st_size != entry.size:
            changed.append(path)
        elif verify == "content" or found.st_mtime_ns != entry.mtime_ns:
            doubtful[full] = path
    for full, digest in host.sha256_of(list(doubtful)).items():
        if digest != manifest.files[doubtful[full]].sha256:
            changed.append(doubtful[full])
    return Differences(sorted(missing), sorted(changed))


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)
