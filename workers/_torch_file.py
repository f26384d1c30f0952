# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing a file that ``torch.load`` reads, one tensor at a time.

``torch.save`` needs all tensors of a file in memory at once, and copies them through its own archive writer. Its format is a plain
zip archive without compression: a pickle in which each storage is only named, and one entry a storage. So a file can be laid out first
and its tensors be made, written and forgotten one by one. The bytes depend on nothing but the contents.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import torch

ALIGNMENT = 64  # bytes; as torch lays out its own files, so that a mapped tensor lies as torch likes it
LOCAL_HEADER = 30  # bytes of a zip entry's header without its name and extra field
ZIP64_EXTRA = 20
LARGE = 1 << 30  # from this size on an entry gets the header for more than 4 GiB
PADDING = b"FB"  # the id torch gives its own padding


class Slot:
    """Stands in a state for a tensor that ``write`` will ask for."""

    def __init__(self, shape: Tuple[int, ...], dtype: torch.dtype) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def numel(self) -> int:
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def bytes(self) -> int:
        return self.numel * torch.empty((), dtype=self.dtype).element_size()

    def strides(self) -> Tuple[int, ...]:
        strides: List[int] = []
        step = 1
        for length in reversed(self.shape):
            strides.insert(0, step)
            step *= length
        return tuple(strides)


class _Storage:
    """Names the data of a slot in the pickle."""

    def __init__(self, key: str, slot: Slot) -> None:
        self.key = key
        self.slot = slot


class _Pickler(pickle.Pickler):
    """Writes a slot as torch writes a contiguous tensor on the CPU."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=2)
        self.slots: List[Slot] = []

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, Slot):
            return NotImplemented
        storage = _Storage(str(len(self.slots)), value)
        self.slots.append(value)
        arguments: Tuple[Any, ...] = (storage, 0, value.shape, value.strides(), False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, _Storage):
            return None
        return ("storage", STORAGES[value.slot.dtype], value.key, "cpu", value.slot.numel)


STORAGES: Dict[torch.dtype, Any] = {
    torch.float32: torch.FloatStorage,
    torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage,
}


def write(path: Path, state: Dict[str, Any], fill: Callable[[Slot], torch.Tensor]) -> None:
    """Write ``state``, in which slots stand for tensors. ``fill`` returns a slot's contiguous tensor; it is asked once for
    each slot, in the order of the state, and the tensor may be overwritten after the next call."""
    stream = io.BytesIO()
    pickler = _Pickler(stream)
    pickler.dump(state)
    with path.open("wb") as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        _entry(archive, "data.pkl", memoryview(stream.getvalue()))
        _entry(archive, "byteorder", memoryview(b"little"))
        for number, slot in enumerate(pickler.slots):
            tensor = fill(slot)
            _entry(archive, f"data/{number}", tensor.view(-1).view(torch.uint8).numpy().data)
        _entry(archive, "version", memoryview(b"3\n"))


def _entry(archive: zipfile.ZipFile, name: str, data: memoryview) -> None:
    info = zipfile.ZipInfo(f"archive/{name}")  # dated 1980: the same contents give the same bytes
    large = data.nbytes > LARGE
    info.extra = _padding(archive.start_dir + LOCAL_HEADER + len(info.filename) + (ZIP64_EXTRA if large else 0))
    info.file_size = data.nbytes
    with archive.open(info, "w", force_zip64=large) as entry:
        entry.write(data)


def _padding(position: int) -> bytes:
    """An extra field after which the data that would start at ``position`` starts at a multiple of the alignment."""
    length = -(position + 4) % ALIGNMENT
    return PADDING + length.to_bytes(2, "little") + b"Z" * length
