# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of a node's ranks, written such that a full disk costs lines of the log and nothing else."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, Optional


class Output:
    """A log that never raises: what cannot be written is counted, and one line says so once there is room again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trouble: Optional[OSError] = None  # why the last line could not be written; None while all goes well
        self._file: Optional[IO[bytes]] = None
        self._lost = 0  # lines
        self._torn = False  # whether the file ends within a line

    def write(self, line: bytes) -> None:
        """Append a line, and before it how many are missing there; where that is refused the line is counted as lost."""
        try:
            self._say_what_is_lost()
            self._put(line)
            self.trouble = None
        except OSError as error:
            self.trouble = error
            self._lost += 1

    def close(self) -> None:
        """End the log: the last chance to say what is missing."""
        with contextlib.suppress(OSError):
            self._say_what_is_lost()
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()

    def _say_what_is_lost(self) -> None:
        if not self._lost:
            return
        what = "1 line is" if self._lost == 1 else f"{self._lost} lines are"
        why = self.trouble.strerror if self.trouble is not None else ""
        self._put(f"[ascend-fleet] {what} missing here: the log could not be written ({why})\n".encode())
        self._lost = 0

    def _put(self, data: bytes) -> None:
        if self._file is None:
            self._file = open_log(self.path)
        left = b"\n" + data if self._torn else data
        while left:
            # The last bytes of a full disk are still taken: a part is written, and only the next call is refused.
            written = self._file.write(left)
            self._torn = left[:written][-1:] != b"\n"
            left = left[written:]


def open_log(path: Path) -> IO[bytes]:
    """Open a new log, unbuffered; the one of an earlier attempt keeps its content under the next free number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        number = 1
        while path.with_suffix(f".{number}.log").exists():
            number += 1
        path.rename(path.with_suffix(f".{number}.log"))
    return open(str(path), "ab", buffering=0)


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all. OSError leaves the old file as it was, and nothing beside it."""
    temporary = path.with_suffix(f".{os.getpid()}.new")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(str(temporary), str(path))
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
