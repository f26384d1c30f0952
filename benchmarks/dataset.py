# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents a second and peak memory of preprocessing, the native engine beside upstream's script.

    python benchmarks/dataset.py [--documents 20000] [--large MIB] [--upstream DIR [--upstream-python PYTHON]]

The documents are the golden sample's, in other pairs. ``--large`` adds an input of that size, to see whether memory grows with it: natively
only, since upstream's script takes minutes for it. DIR holds clones of MindSpeed-LLM, MindSpeed and Megatron-LM.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]  # for `python benchmarks/dataset.py`, too

from benchmarks._measure import Measured, machine, measure  # noqa: E402 - the path has to be set first
from benchmarks._upstream import ROOT, check_out, default_python  # noqa: E402 - the path has to be set first

GOLDEN = ROOT / "tests" / "data" / "golden"
KEYS = ("instruction", "output")


def records() -> Iterator[bytes]:
    """Lines without end: every instruction of the sample with outputs of others."""
    rows = [json.loads(line) for line in (GOLDEN / "sample_900.jsonl").read_text(encoding="utf-8").splitlines()]
    for number in count():
        pair = {
            "instruction": rows[number % len(rows)]["instruction"],
            "output": rows[(number * 7 + 13) % len(rows)]["output"],
        }
        yield json.dumps(pair, ensure_ascii=False).encode() + b"\n"


def write_documents(path: Path, number: int) -> Path:
    """Write so many documents."""
    with path.open("wb") as stream:
        stream.writelines(islice(records(), number))
    return path


def write_bytes(path: Path, size: int) -> int:
    """Write at least so many bytes; return the number of documents."""
    with path.open("wb") as stream:
        for number, line in enumerate(records(), 1):
            stream.write(line)
            if stream.tell() >= size:
                return number
    return 0


def native(source: Path, out: Path, workers: int, *more: str) -> Measured:
    """Preprocess with the program of this repository."""
    out.mkdir()
    argv = [sys.executable, str(ROOT / "workers" / "build_dataset.py"), "--input", str(source), "--tokenizer"]
    argv += [str(GOLDEN / "tiny_hf"), "--output-prefix", str(out / "b"), "--json-keys", *KEYS]
    return _checked(measure([*argv, "--workers", str(workers), *more, "--json"]), "native", out)


def upstream(clones: Path, python: str, source: Path, out: Path, scratch: Path, workers: int) -> Measured:
    """Preprocess with the pinned release's own script."""
    out.mkdir()
    tree = check_out(clones, scratch / "source", python)
    argv = [python, "preprocess_data.py", "--input", str(source), "--tokenizer-name-or-path", str(GOLDEN / "tiny_hf")]
    argv += ["--output-prefix", str(out / "b"), "--tokenizer-type", "PretrainedFromHF", "--json-keys", *KEYS]
    argv += ["--workers", str(workers), "--log-interval", "1000", "--cache-dir", str(scratch / "cache")]
    return _checked(measure(argv, tree.tree, tree.environment()), "upstream", out)


def _checked(result: Measured, name: str, out: Path) -> Measured:
    files = len(list(out.glob("b_*_document.*")))
    if result.status or files != 2 * len(KEYS):
        raise SystemExit(
            f"{name}: status {result.status}, {files} files\n{result.stdout[-1500:]}{result.stderr[-3000:]}"
        )
    return result


def _same_bytes(first: Path, second: Path) -> bool:
    names = [f"b_{key}_document.{kind}" for key in KEYS for kind in ("bin", "idx")]
    return not any(filecmp.cmpfiles(first, second, names, shallow=False)[1:])


def main() -> None:
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("--documents", type=int, default=20_000)
    top.add_argument("--large", type=int, default=0, metavar="MIB", help="also an input of so many MiB")
    top.add_argument("--workers", type=int, default=2)
    top.add_argument("--upstream", type=Path, metavar="DIR", help="clones of the three repositories")
    top.add_argument("--upstream-python", default=default_python(), metavar="PYTHON", help="has upstream's packages")
    options = top.parse_args()
    with tempfile.TemporaryDirectory(prefix="dataset-benchmark-") as name:
        scratch = Path(name)
        source = write_documents(scratch / "small.jsonl", options.documents)
        print(machine())
        print(f"{options.documents} documents, {source.stat().st_size / 1e6:.1f} MB, {options.workers} workers")
        ours = native(source, scratch / "native", options.workers)
        print(f"native:          {ours.line()} {options.documents / ours.wall:8.0f} documents/s")
        whole = native(source, scratch / "whole", options.workers, "--whole-documents")
        print(f"  without words: {whole.line()} {options.documents / whole.wall:8.0f} documents/s")
        if options.upstream:
            theirs = upstream(
                options.upstream, options.upstream_python, source, scratch / "upstream", scratch, options.workers
            )
            print(f"upstream:        {theirs.line()} {options.documents / theirs.wall:8.0f} documents/s")
            print(f"  {theirs.wall / ours.wall:.1f} x the speed, 1/{theirs.peak / ours.peak:.1f} of the memory")
            print(f"  bytes {'equal' if _same_bytes(scratch / 'native', scratch / 'upstream') else 'DIFFER'}")
        if options.large:
            number = write_bytes(scratch / "large.jsonl", options.large * 2**20)
            large = native(scratch / "large.jsonl", scratch / "large", options.workers)
            print(
                f"native, {options.large} MiB, {number} documents: {large.line()} {number / large.wall:8.0f} documents/s"
            )


if __name__ == "__main__":
    main()
