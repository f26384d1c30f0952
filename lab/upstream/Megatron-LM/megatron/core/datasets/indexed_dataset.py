# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading of a .bin/.idx pair.

.idx: the 9 bytes MMIDIDX\\0\\0, u64 version 1, u8 number type, u64 sequences, u64 document bounds, then i32 lengths,
i64 byte offsets into .bin, i64 document bounds. .bin: the token ids one after another.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

_MAGIC = b"MMIDIDX\x00\x00"
_HEADER = struct.Struct("<9sQBQQ")
_TYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 6: np.float64, 7: np.float32, 8: np.uint16}


class IndexedDataset:
    """The token sequences of one dataset, mapped into memory."""

    def __init__(self, path_prefix: str) -> None:
        """Open `path_prefix`.bin and .idx; FileNotFoundError or ValueError when they cannot be a dataset."""
        self.path_prefix = path_prefix
        index, data = Path(f"{path_prefix}.idx"), Path(f"{path_prefix}.bin")
        if not index.is_file() or not data.is_file():
            raise FileNotFoundError(
                f"One or both of the .idx and .bin files cannot be found at the path prefix {path_prefix}"
            )
        raw = index.read_bytes()
        magic, version, code, sequences, bounds = _HEADER.unpack_from(raw)
        if magic != _MAGIC or version != 1:
            raise ValueError(f"bad header, cannot read: {index}")
        at = _HEADER.size
        self.sequence_lengths = np.frombuffer(raw, np.int32, sequences, at)
        at += self.sequence_lengths.nbytes
        self.sequence_pointers = np.frombuffer(raw, np.int64, sequences, at)
        at += self.sequence_pointers.nbytes
        self.document_indices = np.frombuffer(raw, np.int64, bounds, at)
        self.dtype = np.dtype(_TYPES[code])
        self._tokens = np.memmap(data, dtype=self.dtype, mode="r")

    def get(self, index: int, offset: int = 0, length: int | None = None) -> np.ndarray:
        """Return `length` tokens (default: the rest) of sequence `index` from `offset` on."""
        start = int(self.sequence_pointers[index]) // self.dtype.itemsize + offset
        if length is None:
            length = int(self.sequence_lengths[index]) - offset
        return np.asarray(self._tokens[start : start + length])
