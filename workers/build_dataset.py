# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn documents into the .bin/.idx files that Megatron pre-trains on, byte for byte as upstream writes them.

    python build_dataset.py --input FILE|DIR --tokenizer DIR --output-prefix P --json-keys instruction output \\
        [--template T] [--append-eod] [--validation 0.01] [--skip-bad N] [--workers N] [--verify] [--json]

Writes <P>_<key>_document.{bin,idx} for every key. Documents are streamed; memory does not grow with the input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, TextIO

from _common import Progress, WorkerError, full_disk_named, require_space, run, warn
from _documents import Reject, Selection, Template
from _encode import TRAIN, VALIDATION, Part, Setting, encoded_blocks
from _indexed import PairWriter, remove_stale_parts
from _records import find_inputs, read_blocks
from _tokenizer import Tokenizer
from _verify_dataset import compare_pairs


@dataclass(frozen=True)
class Options:
    """What is asked for beyond input, tokenizer and place. ``skip_bad`` is the number of bad records that is borne."""

    append_eod: bool = False
    workers: int = 1
    template: Optional[str] = None
    validation: float = 0.0
    skip_bad: int = 0
    trust_remote_code: bool = False
    whole_documents: bool = False


class Rejects:
    """Counts bad records and writes them to a file of their own; one too many is an error that names it."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.limit = limit
        self.count = 0
        remove_stale_parts(path)
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._stream: Optional[TextIO] = None

    def add(self, rejects: Sequence[Reject]) -> None:
        for reject in rejects:
            self.count += 1
            if self.count > self.limit:
                raise WorkerError(
                    f"{reject.where}: {reject.why} (bad record {self.count}, --skip-bad allows {self.limit})",
                    f"Repair the input, or raise --skip-bad. The first of them is {self._first!r}.",
                )
            if self._stream is None:
                # A half surrogate, which UTF-8 cannot hold, becomes the escape that JSON has for it.
                self._stream = self._part.open("w", encoding="utf-8", errors="backslashreplace")
                self._first = reject.where
            self._stream.write(json.dumps(reject.__dict__, ensure_ascii=False) + "\n")

    _first = ""

    def commit(self) -> Optional[Path]:
        """Put the file in place, or remove an old one where there is nothing to report."""
        if self._stream is None:
            if self.path.exists():
                self.path.unlink()
            return None
        self._stream.close()
        self._part.replace(self.path)
        return self.path

    def discard(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):  # a full disk
                self._stream.close()
        if self._part.exists():
            self._part.unlink()


@dataclass
class Written:
    """What has gone into the files so far."""

    records: int
    empty: Dict[Part, int]
    uneven: Dict[str, int]


def prefix_of(prefix: Path, part: Part) -> Path:
    """``<P>_<key>_document``; validation is a dataset of its own, ``<P>_valid_<key>_document``."""
    name, key = part
    return prefix.with_name("_".join(word for word in (prefix.name, name, key, "document") if word))


def make_setting(tokenizer: Path, keys: Sequence[str], options: Options) -> Setting:
    """Load the tokenizer and check that everything asked for goes together."""
    if len(set(keys)) != len(keys):
        raise WorkerError(f"keys {' '.join(keys)} repeat", "Name each key once.")
    odd = next((key for key in keys if not key or "/" in key or "\0" in key), None)
    if odd is not None:
        raise WorkerError(
            f"key {odd!r} cannot be part of a file name", "Rename it in the input: files are named by key."
        )
    if options.workers < 1:
        raise WorkerError(f"--workers {options.workers} is not positive", "Give 1 or more.")
    if options.skip_bad < 0:
        raise WorkerError(f"--skip-bad {options.skip_bad} is negative", "Give 0 or more.")
    if options.template is not None and len(keys) != 1:
        raise WorkerError(
            f"a template makes one text and there are the keys {' '.join(keys)}",
            "Name one key: it is only the name of the files.",
        )
    if not 0 <= options.validation < 1:
        raise WorkerError(f"--validation {options.validation} is no share below 1", "Give for example 0.01.")
    template = None if options.template is None else Template.parse(options.template)
    selection = Selection(tuple(keys), template, options.validation, options.skip_bad > 0)
    loaded = Tokenizer(tokenizer, options.trust_remote_code)
    if options.whole_documents:
        loaded.use_whole_documents()
    if options.append_eod and loaded.eod is None:
        raise WorkerError(f"the tokenizer in {tokenizer} has no end-of-document token", "Leave out --append-eod.")
    return Setting(loaded, selection, options.append_eod)


def build(source: Path, tokenizer: Path, prefix: Path, keys: Sequence[str], options: Options) -> Dict[str, Any]:
    """Write the pairs of all keys and describe them. Existing pairs are replaced only when all new ones are whole."""
    files, form = find_inputs(source)
    if prefix.name == "" or not prefix.parent.is_dir():
        raise WorkerError(f"output directory {prefix.parent} does not exist", "Create it, or choose another prefix.")
    setting = make_setting(tokenizer, keys, options)
    # Tokens take about as much room as the text they are made from; of a compressed file at least that much.
    require_space(prefix.parent, sum(path.stat().st_size for path in files))
    writers = {part: PairWriter(prefix_of(prefix, part)) for part in setting.parts}
    rejects = Rejects(prefix.with_name(f"{prefix.name}_rejects.jsonl"), options.skip_bad)
    try:
        with full_disk_named(prefix.parent):
            written = _write(setting, files, form, writers, rejects, options.workers)
            for part, writer in writers.items():
                _require_documents(source, part, writer, options)
                writer.finish()
            caches = [cache for writer in writers.values() for cache in remove_index_caches(writer.prefix)]
            paths = [path for writer in writers.values() for path in writer.commit()]
            kept = rejects.commit()
    finally:
        rejects.discard()
        for writer in writers.values():
            writer.discard()
    result = _describe(setting, writers, written)
    for one in result["keys"].values():
        one["skipped"] = rejects.count  # a bad record is left out for every key
    result["files"] = {path.name: {"bytes": path.stat().st_size} for path in paths}
    result.update(inputs=len(files), format=form, removed_caches=caches)
    result.update(rejected=rejects.count, rejects_file=str(kept) if kept else None)
    return result


def _require_documents(source: Path, part: Part, writer: PairWriter, options: Options) -> None:
    name, key = part
    if writer.documents:
        return
    if name == VALIDATION:
        raise WorkerError(
            f"no record of {source} falls into the {options.validation:g} for validation", "Raise --validation."
        )
    raise WorkerError(f"no record of {source} has text under the key {key}", "Name a key that holds the text.")


def _write(
    setting: Setting, files: List[Path], form: str, writers: Dict[Part, PairWriter], rejects: Rejects, workers: int
) -> Written:
    progress = Progress(sum(path.stat().st_size for path in files), "bytes")
    written = Written(0, dict.fromkeys(setting.parts, 0), {name: 0 for name, _ in setting.parts})
    for block in encoded_blocks(setting, read_blocks(files, form, setting.selection.fields), workers):
        written.records += block.records
        rejects.add(block.rejects)
        for part, column in block.columns.items():
            writers[part].add(column.tokens, column.lengths)
            written.empty[part] += column.empty
        for name, count in block.uneven.items():
            written.uneven[name] += count
        progress.advance(block.read)
    return written


def remove_index_caches(prefix: Path) -> List[str]:
    """Remove the sample indices Megatron keeps beside a dataset: they describe the old one and would be used."""
    removed = []
    for place in (prefix, prefix.parent):
        cache = place / "cache" / "GPTDataset_indices"
        if cache.is_dir():
            shutil.rmtree(str(cache))
            removed.append(str(cache))
    return removed


def _describe(setting: Setting, writers: Dict[Part, PairWriter], written: Written) -> Dict[str, Any]:
    warnings = _out_of_step(writers, written.uneven)
    for warning in warnings:
        warn(warning)
    described = {
        part: {
            "prefix": str(writer.prefix),
            "documents": writer.documents,
            "tokens": writer.tokens,
            "empty": written.empty[part],
        }
        for part, writer in writers.items()
    }
    return {
        "keys": {key: one for (name, key), one in described.items() if name == TRAIN},
        "validation": {key: one for (name, key), one in described.items() if name == VALIDATION},
        "records": written.records,
        "append_eod": setting.append_eod,
        "eod": setting.tokenizer.eod,
        "tokenizer_size": setting.tokenizer.size,
        "by_words": setting.tokenizer.by_words,
        "warnings": warnings,
    }


def _out_of_step(writers: Dict[Part, PairWriter], uneven: Dict[str, int]) -> List[str]:
    """The same number of documents for each key does not say that they go together: records may lack one or the other."""
    warnings = []
    for name, records in uneven.items():
        if records:
            listed = ", ".join(f"{key} {writer.documents}" for (part, key), writer in writers.items() if part == name)
            where = f"{records} records{' for ' + name if name else ''}"
            warnings.append(
                f"empty texts are skipped for each key alone, so the keys are out of step: {listed} ({where} have some keys empty)"
            )
    return warnings


def verify(source: Path, tokenizer: Path, prefix: Path, keys: Sequence[str], options: Options) -> Dict[str, Any]:
    """Read pairs back, whoever wrote them, and compare every document with the input."""
    files, form = find_inputs(source)
    setting = make_setting(tokenizer, keys, options)
    pairs = {part: prefix_of(prefix, part) for part in setting.parts}
    compared = compare_pairs(setting, files, form, pairs, options.workers)
    return {"keys": {key: figures for (name, key), figures in compared.items() if name == TRAIN}, "warnings": []}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("--input", type=Path, required=True, help="a file, or a directory of files of one format")
    top.add_argument("--tokenizer", type=Path, required=True, metavar="DIR", help="model directory with its tokenizer")
    top.add_argument("--output-prefix", type=Path, required=True, metavar="P", help="files become <P>_<key>_document.*")
    top.add_argument("--json-keys", nargs="+", default=["text"], metavar="KEY", help="keys to take, default: text")
    top.add_argument("--template", help="make one text of several keys: '{instruction} {output}'; --json-keys names it")
    top.add_argument("--append-eod", action="store_true", help="end every document with the end-of-document token")
    top.add_argument(
        "--validation", type=float, default=0.0, metavar="SHARE", help="goes to <P>_valid_<key>_document.*"
    )
    top.add_argument(
        "--skip-bad", type=int, default=0, metavar="N", help="put up to N bad records into <P>_rejects.jsonl"
    )
    top.add_argument("--workers", type=int, default=1, help="processes that tokenize")
    top.add_argument("--whole-documents", action="store_true", help="do not encode plain text word by word")
    top.add_argument("--trust-remote-code", action="store_true", help="allow a tokenizer to bring its own code")
    top.add_argument("--verify", action="store_true", help="write nothing, compare what is there with the input")
    top.add_argument("--json", action="store_true", help="the last line of output is one JSON object")
    return top


def _show(result: Dict[str, Any]) -> str:
    lines = []
    for key, one in result["keys"].items():
        lines.append(f"{key}: " + ", ".join(f"{value} {name}" for name, value in one.items() if name != "prefix"))
    return "\n".join(lines + result["warnings"])


def main(arguments: Optional[List[str]] = None) -> int:
    given = parser().parse_args(arguments)
    # Processes are our way to use several cores; threads of the tokenizer below them would only get in the way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    options = Options(**{name: getattr(given, name) for name in Options.__dataclass_fields__})
    work = verify if given.verify else build
    return run(
        lambda: work(given.input, given.tokenizer, given.output_prefix, given.json_keys, options), given.json, _show
    )


if __name__ == "__main__":
    if "--trust-remote-code" not in sys.argv:
        # A tokenizer needs no torch, and importing it takes longer than tokenizing some ten thousand documents.
        os.environ.update(USE_TORCH="0", TRANSFORMERS_NO_ADVISORY_WARNINGS="1")
    sys.exit(main())
