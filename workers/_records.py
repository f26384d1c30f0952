# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a dataset's input, read as records in blocks small enough to hand to a process. Nothing is kept in memory."""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import json
import mmap
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ContextManager, Dict, Iterator, List, Sequence, Tuple, cast

from _common import WorkerError
from _json_array import objects

RECEIPT = "receipt.json"  # lies beside every artifact of a run and is no document
BLOCK_BYTES = 1 << 20
BLOCK_RECORDS = 2000
FORMATS = {"jsonl": "jsonl", "json": "json", "parquet": "parquet", "csv": "csv", "txt": "txt", "arrow": "arrow"}
TEXT_FORMATS = ("jsonl", "json", "csv", "txt")
PACKED = (".gz", ".zst")
ARROW_FILE = b"ARROW1"


@dataclass(frozen=True)
class Block:
    """Some consecutive records. ``payload`` is raw lines (JSONL) or a list of records or Unusable; ``first`` counts from 1."""

    path: Path
    unit: str
    first: int
    payload: Any
    read: int
    numbers: Tuple[int, ...] = ()  # of the records, where they do not just count up

    def where(self, index: int) -> str:
        return f"{self.path}, {self.unit} {self.numbers[index] if self.numbers else self.first + index}"


@dataclass(frozen=True)
class Unusable:
    """Stands for a record that was read and is none: why not, and itself as it can be shown."""

    why: str
    record: str


def find_inputs(source: Path) -> Tuple[List[Path], str]:
    """The input files in the order of their names, and their one format."""
    if source.is_file():
        return [source], _format(source)
    if not source.is_dir():
        raise WorkerError(f"input {source} does not exist", "Give a file, or a directory of files of one format.")
    files = [path for path in sorted(source.iterdir()) if path.name != RECEIPT and _is_input(path)]
    if not files:
        raise WorkerError(f"input directory {source} holds no files", "Put the dataset there.")
    formats = {_format(path): path for path in files}
    if len(formats) > 1:
        names = ", ".join(path.name for path in formats.values())
        raise WorkerError(f"input directory {source} holds several formats: {names}", "Keep files of one format in it.")
    return files, next(iter(formats))


def _is_input(path: Path) -> bool:
    """Whether a directory's entry is a file to read; WorkerError for one that holds records and would be passed over."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        below = next((Path(top) / names[0] for top, _, names in os.walk(str(path)) if names), None)
        if below is not None:
            raise WorkerError(
                f"input directory {path.parent} has the subdirectory {path.name}, which holds files ({below})",
                "Put all files of the dataset into one directory, or take the subdirectory out.",
            )
        return False
    if not path.is_file():
        what = f"a link to {os.readlink(str(path))}, which does not exist" if path.is_symlink() else "no regular file"
        raise WorkerError(f"input {path} is {what}", "Copy the file itself there, or take it out.")
    return True


def packing(path: Path) -> str:
    """The ending of a compressed file, or nothing."""
    return next((ending for ending in PACKED if path.name.endswith(ending)), "")


def _format(path: Path) -> str:
    packed = packing(path)
    name = path.name[: len(path.name) - len(packed)]
    found = FORMATS.get(name.rpartition(".")[2])
    if found is None or (packed and found not in TEXT_FORMATS):
        known = ", ".join(f".{ending}" for ending in FORMATS)
        raise WorkerError(
            f"{path} is of no known format", f"Use one of {known} (the text formats also as .gz or .zst)."
        )
    return found


def read_blocks(paths: Sequence[Path], form: str, keys: Sequence[str]) -> Iterator[Block]:
    """Yield the records of all files in order. ``read`` of a block counts bytes of the file on disk."""
    for path in paths:
        if path.stat().st_size == 0:
            raise WorkerError(f"input {path} is empty", "Copy it again, or take it out.")
        if form in ("parquet", "arrow"):
            yield from _columnar(path, form, keys)
        else:
            yield from _text(path, form)


def _text(path: Path, form: str) -> Iterator[Block]:
    try:
        start = _start(path)
        if start.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise WorkerError(
                f"input {path} starts with a byte order mark", "Save it as UTF-8 without a byte order mark."
            )
        read = _csv if form == "csv" else _lines
        if form == "json" and start.lstrip()[:1] == b"[":
            read = _array
        with path.open("rb") as raw, _unpacked(path, raw) as stream:
            yield from read(path, stream, raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise WorkerError(f"input {path} is a damaged gzip file: {error}", "Copy it again.") from None
    except UnicodeDecodeError as error:
        raise WorkerError(f"input {path} is not UTF-8: {error}", "Convert the file to UTF-8.") from None
    except OSError as error:
        # This is how pyarrow says that a compressed stream is damaged; an error of the operating system has a number.
        if error.errno is not None or packing(path) != ".zst":
            raise
        raise WorkerError(f"input {path} is a damaged zst file: {error}", "Copy it again.") from None


def _start(path: Path) -> bytes:
    with path.open("rb") as raw, _unpacked(path, raw) as stream:
        return stream.read(1024)


def _unpacked(path: Path, raw: BinaryIO) -> ContextManager[BinaryIO]:
    packed = packing(path)
    if packed == ".gz":
        return cast(ContextManager[BinaryIO], gzip.GzipFile(fileobj=raw))
    if packed == ".zst":
        pyarrow = _pyarrow(path)
        stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")
        return cast(ContextManager[BinaryIO], io.BufferedReader(stream))
    return contextlib.nullcontext(raw)


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow  # type: ignore[import-untyped]
    except ImportError:
        raise WorkerError(
            f"{path} needs the package pyarrow", "Install pyarrow, or save the dataset as .jsonl."
        ) from None
    return pyarrow


def _lines(path: Path, stream: BinaryIO, raw: BinaryIO) -> Iterator[Block]:
    first, position = 1, 0
    while True:
        data = stream.read(BLOCK_BYTES)
        if not data:
            return
        data += stream.readline()
        before, position = position, raw.tell()
        plain = _format(path) == "txt"
        yield Block(path, "line", first, _decoded_lines(path, first, data) if plain else data, position - before)
        first += data.count(b"\n")


def _decoded_lines(path: Path, first: int, data: bytes) -> List[Dict[str, str]]:
    try:
        return [{"text": line.rstrip("\n")} for line in io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")]
    except UnicodeDecodeError as error:
        raise WorkerError(
            f"{path}, at or after line {first}, is not UTF-8: {error}", "Convert the file to UTF-8."
        ) from None


def _array(path: Path, stream: BinaryIO, raw: BinaryIO) -> Iterator[Block]:
    """Stream the objects of one JSON array, which may be larger than memory."""
    first, position = 1, 0
    records: List[Any] = []
    for record in objects(path, stream, BLOCK_BYTES):
        records.append(record)
        if len(records) == BLOCK_RECORDS:
            before, position = position, raw.tell()
            yield Block(path, "record", first, records, position - before)
            first, records = first + len(records), []
    if records:
        yield Block(path, "record", first, records, raw.tell() - position)


def _csv(path: Path, stream: BinaryIO, raw: BinaryIO) -> Iterator[Block]:
    csv.field_size_limit(1 << 30)
    rows = csv.reader(io.TextIOWrapper(stream, encoding="utf-8", newline=""), strict=True)
    position, line = 0, 1
    header: List[str] = []
    records: List[Any] = []
    numbers: List[int] = []  # a field may hold line breaks, so records and lines do not count alike
    try:
        for row in rows:
            start, line = line, rows.line_num + 1
            if not row:
                continue
            if not header:
                header = _header(path, row)
                continue
            records.append(_csv_record(header, row))
            numbers.append(start)
            if len(records) == BLOCK_RECORDS:
                before, position = position, raw.tell()
                yield Block(path, "line", numbers[0], records, position - before, tuple(numbers))
                records, numbers = [], []
    except (csv.Error, UnicodeDecodeError) as error:
        raise WorkerError(f"{path}, at or after line {line}: {error}", "Repair the file.") from None
    if records:
        yield Block(path, "line", numbers[0], records, raw.tell() - position, tuple(numbers))


def _header(path: Path, row: List[str]) -> List[str]:
    repeated = next((name for name in row if row.count(name) > 1), None)
    if repeated is not None:
        raise WorkerError(
            f"{path}: its header names the column {repeated!r} more than once", "Rename or remove one of them."
        )
    return row


def _csv_record(header: List[str], row: List[str]) -> Any:
    """A record; it lacks the keys of fields that are not there. Of too many fields, which is which nobody can tell."""
    if len(row) > len(header):
        return Unusable(f" has {len(row)} fields, the header {len(header)}", json.dumps(row))
    return dict(zip(header, row))


def _columnar(path: Path, form: str, keys: Sequence[str]) -> Iterator[Block]:
    pyarrow = _pyarrow(path)
    from pyarrow import ipc, parquet

    first = 1
    try:
        if form == "parquet":
            source = parquet.ParquetFile(str(path), buffer_size=BLOCK_BYTES)  # else it reads a whole row group
            names, total = source.schema_arrow.names, source.metadata.num_rows
            batches = source.iter_batches(batch_size=BLOCK_RECORDS, columns=[key for key in keys if key in names])
        else:
            mapped = _mapped(path)
            opened = ipc.open_file if mapped[: len(ARROW_FILE)] == ARROW_FILE else ipc.open_stream
            source = opened(pyarrow.BufferReader(pyarrow.py_buffer(mapped)))
            names, total, batches = source.schema.names, 0, _batches(source, mapped)
        missing = [key for key in keys if key not in names]
        if missing:
            raise WorkerError(f"{path} has no column {missing[0]} (it has {', '.join(names)})", "Name columns it has.")
        size = path.stat().st_size
        for batch in batches:
            records = batch.select(list(keys)).to_pylist() if form == "arrow" else batch.to_pylist()
            yield Block(path, "record", first, records, size * len(records) // total if total else batch.nbytes)
            first += len(records)
    except UnicodeDecodeError as error:
        raise WorkerError(
            f"{path}, at or after record {first}, is not UTF-8: {error}", "Write the file again."
        ) from None
    except (pyarrow.ArrowException, OSError) as error:
        # pyarrow says by an OSError that a file is cut off or damaged, and does not name it.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WorkerError(
            f"{path} cannot be read as {form}: {reason}", "Copy it again, or save the dataset as .jsonl."
        ) from None


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as raw:
        return mmap.mmap(raw.fileno(), 0, prot=mmap.PROT_READ)


def _batches(source: Any, mapped: mmap.mmap) -> Iterator[Any]:
    """Slices of the reader's batches: whoever writes a file may put all of a table into one. Pages that were read are given back."""
    whole = map(source.get_batch, range(source.num_record_batches)) if hasattr(source, "get_batch") else source
    for batch in whole:
        for at in range(0, batch.num_rows, BLOCK_RECORDS):
            yield batch.slice(at, BLOCK_RECORDS)
            mapped.madvise(mmap.MADV_DONTNEED)
