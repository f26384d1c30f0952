# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn documents into the .bin/.idx files that Megatron pre-trains on, byte for byte as upstream writes them.

    python build_dataset.py --input FILE|DIR --tokenizer DIR --output-prefix P --json-keys instruction output \\
        [--append-eod] [--workers N] [--json]

Writes <P>_<key>_document.{bin,idx} for every key. Documents are streamed; memory does not grow with the input.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Deque, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from _common import Progress, WorkerError, run, warn
from _indexed import PairWriter
from _records import Block, find_inputs, read_blocks, texts
from _tokenizer import Tokenizer


@dataclass(frozen=True)
class Column:
    """The tokenized documents of one key of a block; ``empty`` counts the skipped ones."""

    tokens: bytes
    lengths: bytes
    empty: int


@dataclass
class Setting:
    """What every process needs to tokenize a block."""

    tokenizer: Tokenizer
    keys: Sequence[str]
    append_eod: bool


Encoded = Tuple[int, int, Dict[str, Column]]


def encode_block(setting: Setting, block: Block) -> Encoded:
    """Return the bytes read, the number of records and the columns of a block."""
    count, documents = texts(block, setting.keys)
    return block.read, count, {key: _encode(setting, documents[key]) for key in setting.keys}


def _encode(setting: Setting, documents: List[str]) -> Column:
    """An empty text is skipped for its key alone; one that gives no tokens stays a document of length 0, as upstream."""
    present = [text for text in documents if text]
    ids = setting.tokenizer.encode(present)
    if setting.append_eod:
        for document in ids:
            document.append(setting.tokenizer.eod)  # type: ignore[arg-type]  # checked before any work starts
    lengths = np.fromiter(map(len, ids), dtype="<i4", count=len(ids))
    tokens = np.fromiter(chain.from_iterable(ids), dtype="<i4", count=int(lengths.sum()))
    return Column(tokens.tobytes(), lengths.tobytes(), len(documents) - len(present))


_SETTING: Optional[Setting] = None


def _encode_in_child(block: Block) -> Encoded:
    if _SETTING is None:
        raise WorkerError("a worker process was started without its tokenizer", "Run with --workers 1.")
    return encode_block(_SETTING, block)


def encoded_blocks(setting: Setting, blocks: Iterator[Block], workers: int) -> Iterator[Encoded]:
    """Yield encoded blocks in the order of the input; at most a few blocks per worker are under way."""
    if workers < 2:
        for block in blocks:
            yield encode_block(setting, block)
        return
    global _SETTING  # forked processes inherit the tokenizer instead of loading it again
    _SETTING = setting
    waiting: Deque[Future[Encoded]] = deque()
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            for block in islice(blocks, 3 * workers):
                waiting.append(pool.submit(_encode_in_child, block))
            while waiting:
                yield waiting.popleft().result()
                for block in islice(blocks, 1):
                    waiting.append(pool.submit(_encode_in_child, block))
        except BrokenProcessPool:
            raise WorkerError("a worker process was ended from outside", "Run with fewer --workers.") from None
        finally:
            for future in waiting:
                future.cancel()


def build(
    source: Path,
    tokenizer: Path,
    prefix: Path,
    keys: Sequence[str],
    append_eod: bool = False,
    workers: int = 1,
    trust_remote_code: bool = False,
) -> Dict[str, Any]:
    """Write the pairs of all keys and describe them. Existing pairs are replaced only when all new ones are whole."""
    files, form = find_inputs(source)
    if len(set(keys)) != len(keys):
        raise WorkerError(f"keys {' '.join(keys)} repeat", "Name each key once.")
    if prefix.name == "" or not prefix.parent.is_dir():
        raise WorkerError(f"output directory {prefix.parent} does not exist", "Create it, or choose another prefix.")
    setting = Setting(Tokenizer(tokenizer, trust_remote_code), keys, append_eod)
    if append_eod and setting.tokenizer.eod is None:
        raise WorkerError(f"the tokenizer in {tokenizer} has no end-of-document token", "Leave out --append-eod.")
    writers = {key: PairWriter(prefix.with_name(f"{prefix.name}_{key}_document")) for key in keys}
    try:
        records, empty = _write(setting, files, form, writers, workers)
        for key, writer in writers.items():
            if not writer.documents:
                raise WorkerError(
                    f"no record of {source} has text under the key {key}", "Name a key that holds the text."
                )
            writer.finish()
        caches = [cache for writer in writers.values() for cache in remove_index_caches(writer.prefix)]
        paths = {key: writer.commit() for key, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.discard()
    return _describe(setting, writers, paths, records, empty, caches, files, form)


def _write(
    setting: Setting, files: List[Path], form: str, writers: Dict[str, PairWriter], workers: int
) -> Tuple[int, Dict[str, int]]:
    progress = Progress(sum(path.stat().st_size for path in files), "bytes")
    records, empty = 0, dict.fromkeys(setting.keys, 0)
    for read, count, columns in encoded_blocks(setting, read_blocks(files, form, setting.keys), workers):
        records += count
        for key, column in columns.items():
            writers[key].add(column.tokens, column.lengths)
            empty[key] += column.empty
        progress.advance(read)
    return records, empty


def remove_index_caches(prefix: Path) -> List[str]:
    """Remove the sample indices Megatron keeps beside a dataset: they describe the old one and would be used."""
    removed = []
    for place in (prefix, prefix.parent):
        cache = place / "cache" / "GPTDataset_indices"
        if cache.is_dir():
            shutil.rmtree(str(cache))
            removed.append(str(cache))
    return removed


def _describe(
    setting: Setting,
    writers: Dict[str, PairWriter],
    paths: Dict[str, List[Path]],
    records: int,
    empty: Dict[str, int],
    caches: List[str],
    files: List[Path],
    form: str,
) -> Dict[str, Any]:
    warnings = []
    if len({writer.documents for writer in writers.values()}) > 1:
        counts = ", ".join(f"{key} {writer.documents}" for key, writer in writers.items())
        warnings.append(f"empty texts are skipped for each key alone, so the keys are out of step: {counts}")
        warn(warnings[0])
    return {
        "files": {path.name: {"bytes": path.stat().st_size} for pair in paths.values() for path in pair},
        "keys": {
            key: {
                "prefix": str(writer.prefix),
                "documents": writer.documents,
                "tokens": writer.tokens,
                "empty": empty[key],
            }
            for key, writer in writers.items()
        },
        "records": records,
        "inputs": len(files),
        "format": form,
        "append_eod": setting.append_eod,
        "eod": setting.tokenizer.eod,
        "tokenizer_size": setting.tokenizer.size,
        "removed_caches": caches,
        "warnings": warnings,
    }


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("--input", type=Path, required=True, help="a file, or a directory of files of one format")
    top.add_argument("--tokenizer", type=Path, required=True, metavar="DIR", help="model directory with its tokenizer")
    top.add_argument("--output-prefix", type=Path, required=True, metavar="P", help="files become <P>_<key>_document.*")
    top.add_argument("--json-keys", nargs="+", default=["text"], metavar="KEY", help="keys to take, default: text")
    top.add_argument("--append-eod", action="store_true", help="end every document with the end-of-document token")
    top.add_argument("--workers", type=int, default=1, help="processes that tokenize")
    top.add_argument("--trust-remote-code", action="store_true", help="allow a tokenizer to bring its own code")
    top.add_argument("--json", action="store_true", help="the last line of output is one JSON object")
    return top


def _show(result: Dict[str, Any]) -> str:
    lines = [f"{result['records']} records from {result['inputs']} {result['format']} file(s)"]
    for key, one in result["keys"].items():
        lines.append(
            f"{key}: {one['documents']} documents, {one['tokens']} tokens, {one['empty']} empty: {one['prefix']}"
        )
    return "\n".join(lines + result["warnings"])


def main(arguments: Optional[List[str]] = None) -> int:
    options = parser().parse_args(arguments)
    # Processes are our way to use several cores; threads of the tokenizer below them would only get in the way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return run(
        lambda: build(
            options.input,
            options.tokenizer,
            options.output_prefix,
            options.json_keys,
            options.append_eod,
            options.workers,
            options.trust_remote_code,
        ),
        options.json,
        _show,
    )


if __name__ == "__main__":
    sys.exit(main())
