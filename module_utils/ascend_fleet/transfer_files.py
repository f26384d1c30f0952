# SPDX-License-Identifier: GPL-3.0-or-later
"""File effects that only transfers need: sharing, cloning and copying files of one machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from typing import Iterator

from .errors import FleetError

# ioctl that makes a file share the blocks of another one until either is written (XFS, btrfs): a copy of 60 GB in no time.
FICLONE = 0x40049409


@contextlib.contextmanager
def alone(path: str) -> Iterator[bool]:
    """Hold a lock file while something is fetched; the value says whether another process had it first.

    A module goes on when its ssh connection is lost. The run that follows waits for it here instead of writing into the same
    files; the lock goes with the process that holds it.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            waited = False
        except BlockingIOError:
            fcntl.flock(stream, fcntl.LOCK_EX)
            waited = True
        yield waited


def share(source: str, target: str) -> None:
    """Give a file of an older artifact a second name; where the file system cannot, copy it.

    Artifacts are only ever written by replacing files, so a change of one never shows in the other.
    """
    os.makedirs(os.path.dirname(target), exist_ok=True)
    _remove_file(target)
    try:
        os.link(source, target)
    except OSError:
        copy(source, target)


def copy(source: str, target: str) -> None:
    """Copy a file, by cloning its blocks where the file system can. Raises FleetError, for example on a full disk."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    _remove_file(target)
    try:
        if not _clone(source, target):
            shutil.copyfile(source, target)
    except OSError as error:
        raise FleetError(
            f"{source} cannot be copied to {target} ({error.strerror}).", "Check owner, mode and free space of both."
        ) from error


def set_time(path: str, mtime_ns: int) -> None:
    """Give a file the modification time (ns since the epoch) that its manifest has."""
    os.utime(path, ns=(mtime_ns, mtime_ns))


def make_readable(path: str) -> None:
    """Give a file the mode that every artifact file has: containers read them as another user."""
    os.chmod(path, 0o644)


def move_into_place(source: str, target: str) -> None:
    """Replace a file by a verified one of the same file system."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(target) and not os.path.islink(target):
        shutil.rmtree(target)
    os.replace(source, target)


def _clone(source: str, target: str) -> bool:
    try:
        with open(source, "rb") as old, open(target, "wb") as new:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
    except OSError:
        return False
    return True


def _remove_file(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)
