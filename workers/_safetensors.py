# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a Hugging Face model directory: its safetensors shards, checked before use and mapped instead of loaded."""

from __future__ import annotations

import json
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple

import torch
from _common import POINTER, WorkerError, read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
LARGEST_HEADER = 100_000_000  # the limit of the safetensors format itself

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
AGAIN = "Copy the file again from its origin and compare its size and checksum."


@dataclass(frozen=True)
class Entry:
    """One tensor of a shard: ``start`` and ``stop`` are byte positions in the file."""

    dtype: torch.dtype
    shape: Tuple[int, ...]
    start: int
    stop: int

    @property
    def bytes(self) -> int:
        return self.stop - self.start


def read_header(path: Path) -> Dict[str, Entry]:
    """Read and check a shard's header: a truncated, padded, damaged or pointer file is refused by name."""
    if not path.is_file():
        raise WorkerError(f"shard {path} does not exist", "Copy the complete model directory.")
    size = path.stat().st_size
    with path.open("rb") as handle:
        start = handle.read(8)
        if POINTER.startswith(start) and start:
            raise WorkerError(
                f"{path} is a git-lfs pointer, not weights", "Run `git lfs pull` where the model comes from."
            )
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, LARGEST_HEADER):
            raise WorkerError(f"{path} ({size} bytes) is truncated or not safetensors: its header does not fit", AGAIN)
        raw = handle.read(length)
    entries = _parse(path, raw, 8 + length)
    end = _end(path, entries, 8 + length)
    if end != size:
        raise WorkerError(f"{path} has {size} bytes, its header describes {end}: truncated or damaged", AGAIN)
    return entries


def _end(path: Path, entries: Dict[str, Entry], base: int) -> int:
    """Where the data ends. As in the safetensors library each tensor starts where the one before it ends: one that overlaps
    another, or leaves a gap, holds values that are not its own."""
    end = base
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != end:
            raise WorkerError(
                f"{path} has a damaged header: tensor {name} starts at byte {entry.start - base} of the data, "
                f"the one before it ends at {end - base}",
                AGAIN,
            )
        end = entry.stop
    return end


def _parse(path: Path, raw: bytes, base: int) -> Dict[str, Entry]:
    try:
        header: Dict[str, Any] = json.loads(raw.decode("utf-8"))
        header.pop("__metadata__", None)
        return {name: _entry(name, fields, base) for name, fields in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkerError(f"{path} has a damaged header: {error}", AGAIN) from error


def _entry(name: str, fields: Dict[str, Any], base: int) -> Entry:
    dtype = DTYPES.get(fields["dtype"])
    if dtype is None:
        raise ValueError(f"tensor {name} has the type {fields['dtype']}, which training does not use")
    start, stop = fields["data_offsets"]
    shape = tuple(int(size) for size in fields["shape"])
    expected = torch.empty((), dtype=dtype).element_size()
    for size in shape:
        expected *= size
    if start < 0 or stop - start != expected:
        raise ValueError(f"tensor {name} of shape {list(shape)} has {stop - start} bytes instead of {expected}")
    return Entry(dtype, shape, base + start, base + stop)


class Shards:
    """All tensors of a model directory by name. Data is mapped; ``release`` gives the pages back."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: Dict[str, Dict[str, Entry]] = {}
        self.place: Dict[str, str] = {}
        self.warnings: List[str] = []
        self._maps: Dict[str, mmap.mmap] = {}
        weight_map = self._weight_map()
        for name in sorted(set(weight_map.values())) if weight_map else [SINGLE]:
            self.files[name] = read_header(directory / name)
        self._place(weight_map)

    def _weight_map(self) -> Optional[Dict[str, str]]:
        index = self.directory / INDEX
        if index.is_file():
            content = read_json(index, "index")
            weight_map = content.get("weight_map") if isinstance(content, dict) else None
            if not isinstance(weight_map, dict) or not weight_map:
                raise WorkerError(f"index {index} has no weight_map", "Copy the index again from its origin.")
            outside = [name for name in weight_map.values() if Path(str(name)).name != name]
            if outside:
                raise WorkerError(
                    f"index {index} points outside of its directory: {outside[0]}", "Use a model you trust."
                )
            return weight_map
        if (self.directory / SINGLE).is_file():
            return None
        pickles = sorted(path.name for path in self.directory.glob("*.bin"))
        if pickles:
            raise WorkerError(
                f"{self.directory} holds pickled weights ({pickles[0]}), no safetensors",
                "Save the model as safetensors: pickles can run code, so they are not read here.",
            )
        raise WorkerError(f"{self.directory} holds neither {INDEX} nor {SINGLE}", "Copy the complete model directory.")

    def _place(self, weight_map: Optional[Dict[str, str]]) -> None:
        for name, entries in self.files.items():
            for tensor in entries:
                if tensor in self.place:
                    raise WorkerError(f"tensor {tensor} is in {self.place[tensor]} and in {name}", AGAIN)
                self.place[tensor] = name
        if weight_map is None:
            return
        for tensor, name in weight_map.items():
            if self.place.get(tensor) != name:
                where = self.place.get(tensor, "no shard")
                raise WorkerError(
                    f"index {self.directory / INDEX} says {tensor} is in {name}, but it is in {where}",
                    "Copy index and shards again from one revision.",
                )
        unlisted = sorted(set(self.place) - set(weight_map))
        if unlisted:
            self.warnings.append(f"{len(unlisted)} tensors are in the shards but not in the index: {unlisted[0]}")

    def entry(self, name: str) -> Entry:
        return self.files[self.place[name]][name]

    def tensor(self, name: str) -> torch.Tensor:
        """A view of the mapped data, private to this process. Valid until ``release``; copy what is to stay."""
        entry = self.entry(name)
        if entry.stop == entry.start:
            return torch.empty(entry.shape, dtype=entry.dtype)
        count = entry.bytes // torch.empty((), dtype=entry.dtype).element_size()
        mapped = self._map(self.place[name])
        return torch.frombuffer(mapped, dtype=entry.dtype, count=count, offset=entry.start).reshape(entry.shape)

    def release(self, names: Iterable[str]) -> None:
        """Give back the pages of these tensors: a streamed model must not stay resident as mapped pages."""
        for name in {self.place[name] for name in names}:
            if name in self._maps:
                self._maps[name].madvise(mmap.MADV_DONTNEED)

    def _map(self, name: str) -> mmap.mmap:
        if name not in self._maps:
            with (self.directory / name).open("rb") as handle:
                # A private writable map: torch wants writable memory, and nothing written could reach the file.
                self._maps[name] = mmap.mmap(
                    handle.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
                )
        return self._maps[name]


def write_header(tensors: Dict[str, Tuple[torch.dtype, Tuple[int, ...]]]) -> bytes:
    """The bytes before the data of a safetensors file that holds these tensors in this order."""
    header: Dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (dtype, shape) in tensors.items():
        size = torch.empty((), dtype=dtype).element_size()
        for length in shape:
            size *= length
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    raw = json.dumps(header, separators=(",", ":")).encode("utf-8")
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw
