# SPDX-License-Identifier: GPL-3.0-or-later
"""The .bin/.idx pair that Megatron trains on: writing it in one pass with flat memory, and reading it by mapping."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import struct
from pathlib import Path
from typing import BinaryIO, List

import numpy as np
from _common import WorkerError, sync_directory

MAGIC = b"MMIDIDX\x00\x00"
INT32_CODE = 4
CHUNK = 1 << 20


def remove_stale_parts(path: Path) -> None:
    """Remove the temporary files of ``path`` whose process is gone: it was killed, and they may be large."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        pid = part.name[len(path.name) + 2 :].partition(".")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            part.unlink()


class PairWriter:
    """Writes ``<prefix>.bin`` and ``<prefix>.idx`` under temporary names; ``commit`` makes both appear."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.documents = 0
        self.tokens = 0
        remove_stale_parts(prefix)
        self._bin = self._part("bin").open("wb")
        self._lengths = self._part("lengths").open("w+b")

    def _part(self, kind: str) -> Path:
        return self.prefix.with_name(f".{self.prefix.name}.{os.getpid()}.{kind}.part")

    def add(self, tokens: bytes, lengths: bytes) -> None:
        """Append documents: their int32 token ids one after another, and their int32 lengths."""
        self._bin.write(tokens)
        self._lengths.write(lengths)
        self.tokens += len(tokens) // 4
        self.documents += len(lengths) // 4

    def finish(self) -> None:
        """Write the index and make both files durable, still under their temporary names."""
        with self._part("idx").open("wb") as index:
            index.write(MAGIC + struct.pack("<QBQQ", 1, INT32_CODE, self.documents, self.documents + 1))
            self._lengths.seek(0)
            shutil.copyfileobj(self._lengths, index, CHUNK)
            self._write_pointers(index)
            for start in range(0, self.documents + 1, CHUNK):
                index.write(np.arange(start, min(start + CHUNK, self.documents + 1), dtype="<i8").tobytes())
            index.flush()
            os.fsync(index.fileno())
        self._bin.flush()
        os.fsync(self._bin.fileno())
        self._bin.close()
        self._lengths.close()
        self._part("lengths").unlink()

    def _write_pointers(self, index: BinaryIO) -> None:
        self._lengths.seek(0)
        position = 0
        while True:
            lengths = np.frombuffer(self._lengths.read(4 * CHUNK), dtype="<i4").astype("<i8")
            if not lengths.size:
                return
            ends = position + np.cumsum(lengths * 4)
            index.write((ends - lengths * 4).tobytes())
            position = int(ends[-1])

    def commit(self) -> List[Path]:
        """Replace the pair. The old index goes first and the new one comes last: no index ever names other data."""
        paths = [self.prefix.with_name(f"{self.prefix.name}.{kind}") for kind in ("bin", "idx")]
        if paths[1].exists():
            paths[1].unlink()
        for path, kind in zip(paths, ("bin", "idx")):
            self._part(kind).replace(path)
        sync_directory(self.prefix.parent)
        return paths

    def discard(self) -> None:
        """Remove what is not committed."""
        for stream in (self._bin, self._lengths):
            with contextlib.suppress(OSError):  # what it holds back may not fit on the disk, and is of no use
                stream.close()
        for kind in ("bin", "lengths", "idx"):
            if self._part(kind).exists():
                self._part(kind).unlink()


class PairReader:
    """``lengths`` and ``pointers`` of a pair's documents and its token ids, all mapped; a damaged pair is refused."""

    def __init__(self, prefix: Path) -> None:
        index = prefix.with_name(prefix.name + ".idx")
        data = prefix.with_name(prefix.name + ".bin")
        for path in (index, data):
            if not path.is_file():
                raise WorkerError(f"{path} does not exist", "The prefix ends in the key: .../name_key_document.")
        with index.open("rb") as handle:
            header = handle.read(34)
        if len(header) < 34 or header[:9] != MAGIC:
            raise WorkerError(f"{index} is no Megatron index", "Build the dataset again.")
        version, code, count, documents = struct.unpack("<QBQQ", header[9:])
        size = 34 + 12 * count + 8 * documents
        if version != 1 or code != INT32_CODE or index.stat().st_size != size:
            raise WorkerError(
                f"{index}: version {version}, type {code}, {index.stat().st_size} bytes instead of {size}",
                "Build the dataset again: int32 tokens in index version 1 are read.",
            )
        self.lengths = (
            np.memmap(index, dtype="<i4", mode="r", offset=34, shape=(count,)) if count else np.zeros(0, "<i4")
        )
        self.pointers = (
            np.memmap(index, dtype="<i8", mode="r", offset=34 + 4 * count, shape=(count,))
            if count
            else np.zeros(0, "<i8")
        )
        total = int(self.pointers[-1]) + 4 * int(self.lengths[-1]) if count else 0
        if data.stat().st_size != total or not total:
            raise WorkerError(
                f"{data} has {data.stat().st_size} bytes, its index describes {total}", "Build the dataset again."
            )
        self.tokens: np.ndarray = np.memmap(data, dtype="<i4", mode="r")

    def document(self, number: int) -> np.ndarray:
        start = int(self.pointers[number]) // 4
        return self.tokens[start : start + int(self.lengths[number])]
