# SPDX-License-Identifier: GPL-3.0-or-later
"""The dataset builder against upstream's files, against a plain writer, and against input that cannot be used."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _records
import build_dataset
import numpy as np
import pytest
from _common import WorkerError
from _indexed import PairReader, PairWriter
from build_dataset import Options
from transformers import AutoTokenizer


@pytest.fixture(scope="module")
def tokenizer(golden: Path) -> Path:
    return golden / "tiny_hf"


def digests(directory: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in directory.iterdir()
        if path.is_file()
    }


def jsonl(path: Path, records: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def build(source: Path, tokenizer: Path, prefix: Path, keys: Sequence[str], **options: Any) -> dict[str, Any]:
    return build_dataset.build(source, tokenizer, prefix, keys, Options(**options))


def documents(prefix: Path) -> list[list[int]]:
    reader = PairReader(prefix)
    return [reader.document(number).tolist() for number in range(len(reader.lengths))]


@pytest.mark.parametrize("workers", [1, 2])
def test_files_equal_upstreams(
    golden: Path, tokenizer: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_records, "BLOCK_BYTES", 20_000)  # many blocks, so that their order matters
    result = build(golden / "sample_900.jsonl", tokenizer, tmp_path / "s", ["instruction", "output"], workers=workers)
    wanted = json.loads((golden / "dataset.json").read_text())
    assert digests(tmp_path) == {f"s_{name}": figures for name, figures in wanted.items()}
    assert result["records"] == 900
    assert result["keys"]["output"]["tokens"] == wanted["output_document.bin"]["bytes"] // 4
    assert result["keys"]["output"]["documents"] == 900


def test_tokens_are_those_of_upstreams_call(tokenizer: Path, tmp_path: Path) -> None:
    """Upstream calls the tokenizer with one text at a time."""
    texts = ["def f():\n\treturn 1", "  spaces  ", "<|im_start|>user", "昇腾 🙂 é", "a\u0000b", "\n"]
    jsonl(tmp_path / "x.jsonl", [{"text": text} for text in texts])
    build(tmp_path / "x.jsonl", tokenizer, tmp_path / "o", ["text"], append_eod=True)
    reference = AutoTokenizer.from_pretrained(str(tokenizer), local_files_only=True)
    wanted = [[*reference(text=text)["input_ids"], reference.eos_token_id] for text in texts]
    assert documents(tmp_path / "o_text_document") == wanted


def test_index_is_as_the_format_says(tokenizer: Path, tmp_path: Path) -> None:
    jsonl(tmp_path / "x.jsonl", [{"text": "one two"}, {"text": "three"}])
    build(tmp_path / "x.jsonl", tokenizer, tmp_path / "o", ["text"])
    data = np.fromfile(tmp_path / "o_text_document.bin", dtype="<i4")
    lengths = [len(document) for document in documents(tmp_path / "o_text_document")]
    assert sum(lengths) == len(data)
    wanted = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 4, 2, 3) + struct.pack("<2i", *lengths)
    wanted += struct.pack("<2q", 0, 4 * lengths[0]) + struct.pack("<3q", 0, 1, 2)
    assert (tmp_path / "o_text_document.idx").read_bytes() == wanted


def test_index_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("_indexed.CHUNK", 3)
    writer = PairWriter(tmp_path / "p")
    lengths = [3, 0, 5, 1, 1, 2, 0, 4]
    writer.add(np.arange(sum(lengths), dtype="<i4").tobytes(), np.array(lengths, dtype="<i4").tobytes())
    writer.finish()
    writer.commit()
    reader = PairReader(tmp_path / "p")
    assert reader.lengths.tolist() == lengths
    assert reader.pointers.tolist() == [0, 12, 12, 32, 36, 40, 48, 48]
    assert (tmp_path / "p.idx").read_bytes()[-72:] == struct.pack("<9q", *range(9))


def test_empty_texts_are_skipped_for_their_key_alone(tokenizer: Path, tmp_path: Path) -> None:
    jsonl(tmp_path / "x.jsonl", [{"a": "x", "b": ""}, {"a": "", "b": "y"}, {"a": "z", "b": ""}])
    result = build(tmp_path / "x.jsonl", tokenizer, tmp_path / "o", ["a", "b"], append_eod=True)
    assert {key: (one["documents"], one["empty"]) for key, one in result["keys"].items()} == {"a": (2, 1), "b": (1, 2)}
    assert "out of step: a 2, b 1" in result["warnings"][0]
    assert [ids[-1] for ids in documents(tmp_path / "o_a_document")] == [result["eod"]] * 2


def test_keys_with_the_same_number_of_documents_can_be_out_of_step(tokenizer: Path, tmp_path: Path) -> None:
    rows = [{"a": "x", "b": ""}, {"a": "", "b": "y"}, {"a": "", "b": ""}, {"a": "z", "b": "z"}]
    result = build(jsonl(tmp_path / "x.jsonl", rows), tokenizer, tmp_path / "o", ["a", "b"])
    assert "out of step: a 2, b 2 (2 records have some keys empty)" in result["warnings"][0]
    result = build(jsonl(tmp_path / "x.jsonl", rows[2:]), tokenizer, tmp_path / "o", ["a", "b"])
    assert result["warnings"] == []


GOOD = b'{"text": "good"}\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD * 3 + b'{"text": \n', "line 4 is not JSON"),
        (GOOD + b"\n\n" + b'{"text": null}\n', "line 4: text is null, not text"),
        (GOOD + b'{"text": 5}\n', "line 2: text is int, not text"),
        (GOOD + b'{"texts": "x", "id": 1}\n', "line 2 has no key text (it has: texts, id)"),
        (GOOD + b'{"text": "\xff"}\n', "line 2 is not UTF-8"),
        (GOOD + b'{"text": "\\ud800"}\n', "line 2: text is no valid text"),
        (GOOD + b'["text"]\n', "line 2 is not a JSON object"),
        (b"\xef\xbb\xbf" + GOOD, "byte order mark"),
        (GOOD.decode().encode("utf-16"), "byte order mark"),
        (b"", "is empty"),
        (b"\n\n", "no record of"),
        (b'{"text": ""}\n', "no record of"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_bad_input_is_named_and_nothing_is_written(
    tokenizer: Path, tmp_path: Path, content: bytes, words: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_records, "BLOCK_BYTES", 30)
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(WorkerError) as caught:
        build(tmp_path / "x.jsonl", tokenizer, tmp_path / "o", ["text"], workers=workers)
    assert words in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_crlf_and_blank_lines_are_no_matter(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "one"}\r\n\r\n{"text": "two"}')
    build(tmp_path / "x.jsonl", tokenizer, tmp_path / "o", ["text"])
    jsonl(tmp_path / "y.jsonl", [{"text": "one"}, {"text": "two"}])
    build(tmp_path / "y.jsonl", tokenizer, tmp_path / "p", ["text"])
    assert (tmp_path / "o_text_document.bin").read_bytes() == (tmp_path / "p_text_document.bin").read_bytes()


TEXTS = [f"text {number}, with a comma" for number in range(50)]


def _packed(data: bytes, form: str) -> bytes:
    if form.endswith(".gz"):
        return gzip.compress(data)
    if not form.endswith(".zst"):
        return data
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _write(path: Path, form: str) -> Path:
    import pyarrow
    from pyarrow import parquet

    records = [{"text": text, "id": number} for number, text in enumerate(TEXTS)]
    table = pyarrow.table({"text": TEXTS, "id": list(range(50))})
    if form == "parquet":
        parquet.write_table(table, path, row_group_size=7)
    elif form == "arrow":
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table, max_chunksize=7)
    elif form == "csv":
        path.write_text("id,text\n" + "".join(f'{number},"{text}"\n' for number, text in enumerate(TEXTS)))
    elif form == "txt":
        path.write_text("\n".join(TEXTS))
    elif form == "json":
        path.write_text(json.dumps(records, indent=1))
    else:
        data = "".join(json.dumps(record) + "\n" for record in records).encode()
        path.write_bytes(_packed(data, form))
    return path


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv", "txt", "json", "jsonl", "jsonl.gz", "jsonl.zst"])
def test_every_format_gives_the_same_documents(
    tokenizer: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_records, "BLOCK_BYTES", 100)
    monkeypatch.setattr(_records, "BLOCK_RECORDS", 8)
    result = build(_write(tmp_path / f"x.{form}", form), tokenizer, tmp_path / "o", ["text"])
    assert result["records"] == 50
    reference = AutoTokenizer.from_pretrained(str(tokenizer), local_files_only=True)
    assert documents(tmp_path / "o_text_document") == [reference(text=text)["input_ids"] for text in TEXTS]


def test_directory_is_read_in_the_order_of_names(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b", "a", "c"):
        jsonl(tmp_path / "in" / f"{name}.jsonl", [{"text": name}])
    (tmp_path / "in" / "receipt.json").write_text("{}")
    result = build(tmp_path / "in", tokenizer, tmp_path / "o", ["text"])
    assert result["inputs"] == 3
    first = AutoTokenizer.from_pretrained(str(tokenizer), local_files_only=True)(text="a")["input_ids"]
    assert documents(tmp_path / "o_text_document")[0] == first


def test_inputs_that_are_refused(tokenizer: Path, tmp_path: Path) -> None:
    def refused(source: Path, prefix: Path = tmp_path / "o", keys: Sequence[str] = ("text",), **more: Any) -> str:
        with pytest.raises(WorkerError) as caught:
            build(source, tokenizer, prefix, list(keys), **more)
        return caught.value.message

    good = jsonl(tmp_path / "x.jsonl", [{"text": "x"}])
    (tmp_path / "mixed").mkdir()
    jsonl(tmp_path / "mixed" / "a.jsonl", [{"text": "x"}])
    (tmp_path / "mixed" / "b.csv").write_text("text\nx\n")
    (tmp_path / "none").mkdir()
    (tmp_path / "broken.json").write_text('[{"text": "x"}, {"text": ')
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    (tmp_path / "broken.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 99)[:-9])
    (tmp_path / "broken.jsonl.zst").write_bytes(_packed(b'{"text": "x"}\n' * 99, "jsonl.zst")[:-9])
    (tmp_path / "x.parquet.zst").write_bytes(b"x")
    assert "does not exist" in refused(tmp_path / "absent.jsonl")
    assert "several formats" in refused(tmp_path / "mixed")
    assert "holds no files" in refused(tmp_path / "none")
    assert "no known format" in refused(Path(__file__))
    assert "record 2, is not JSON" in refused(tmp_path / "broken.json")
    assert "cannot be read as parquet" in refused(tmp_path / "broken.parquet")
    assert "damaged zst file: Truncated" in refused(tmp_path / "broken.jsonl.zst")
    assert "no known format" in refused(tmp_path / "x.parquet.zst")
    assert "damaged gzip" in refused(tmp_path / "broken.jsonl.gz")
    assert "has no column other (it has text, id)" in refused(_write(tmp_path / "y.parquet", "parquet"), keys=["other"])
    assert "output directory" in refused(good, prefix=tmp_path / "absent" / "o")
    assert "repeat" in refused(good, keys=["text", "text"])


def test_tokenizer_that_is_absent_or_damaged(golden: Path, tmp_path: Path) -> None:
    good = jsonl(tmp_path / "x.jsonl", [{"text": "x"}])
    with pytest.raises(WorkerError, match="is not a directory"):
        build(good, tmp_path / "absent", tmp_path / "o", ["text"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkerError, match="cannot be loaded"):
        build(good, tmp_path / "empty", tmp_path / "o", ["text"])


def test_new_files_replace_old_ones_and_their_sample_indices(tokenizer: Path, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", [{"text": "one"}])
    build(source, tokenizer, tmp_path / "o", ["text"])
    caches = [tmp_path / "o_text_document/cache/GPTDataset_indices", tmp_path / "cache/GPTDataset_indices"]
    for cache in caches:
        cache.mkdir(parents=True)
        (cache / "0-GPTDataset-sample_index.npy").write_bytes(b"old")
    jsonl(source, [{"text": "one"}, {"text": "two"}])
    result = build(source, tokenizer, tmp_path / "o", ["text"])
    assert not any(cache.exists() for cache in caches)
    assert result["removed_caches"] == [str(cache) for cache in caches]
    assert len(documents(tmp_path / "o_text_document")) == 2


def test_what_a_killed_run_left_is_removed(tokenizer: Path, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", [{"text": "one"}])
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid in (gone.pid, 1):  # the process 1 lives
        (tmp_path / f".o_text_document.{pid}.bin.part").write_bytes(b"half")
    build(source, tokenizer, tmp_path / "o", ["text"])
    assert {path.name for path in tmp_path.glob(".*")} == {".o_text_document.1.bin.part"}


@pytest.mark.parametrize("workers", [1, 2])
def test_full_disk_leaves_no_half_files(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Closing a file writes what it holds back, and fails once more."""

    class Full(io.BytesIO):
        def write(self, _data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            if not self.closed:
                super().close()
                self.write(b"")

    source = jsonl(tmp_path / "x.jsonl", [{"a": "one", "b": "two"}])
    start = PairWriter.__init__

    def full(writer: PairWriter, prefix: Path) -> None:
        start(writer, prefix)
        writer._bin = Full()  # type: ignore[assignment]

    monkeypatch.setattr(PairWriter, "__init__", full)
    with pytest.raises(WorkerError, match=f"{tmp_path} became full.*No space left"):
        build(source, tokenizer, tmp_path / "o", ["a", "b"], workers=workers)
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_failed_run_keeps_the_old_files(tokenizer: Path, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", [{"text": "one"}])
    build(source, tokenizer, tmp_path / "o", ["text"])
    before = digests(tmp_path)
    with source.open("a") as handle:
        handle.write("broken\n")
    with pytest.raises(WorkerError, match="line 2 is not JSON"):
        build(source, tokenizer, tmp_path / "o", ["text"])
    assert digests(tmp_path) == before | {"x.jsonl": digests(tmp_path)["x.jsonl"]}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda prefix: (prefix / "o_text_document.idx").unlink(), "does not exist"),
        (lambda prefix: (prefix / "o_text_document.idx").write_bytes(b"x" * 60), "no Megatron index"),
        (lambda prefix: (prefix / "o_text_document.bin").open("ab").write(b"more"), "its index describes"),
    ],
)
def test_damaged_pairs_are_refused(tokenizer: Path, tmp_path: Path, damage: Any, words: str) -> None:
    build(jsonl(tmp_path / "x.jsonl", [{"text": "one"}]), tokenizer, tmp_path / "o", ["text"])
    damage(tmp_path)
    with pytest.raises(WorkerError, match=words):
        PairReader(tmp_path / "o_text_document")


def test_program_prints_its_result_as_the_last_line(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = jsonl(tmp_path / "x.jsonl", [{"text": "one"}])
    line = ["--input", str(source), "--tokenizer", str(tokenizer), "--output-prefix", str(tmp_path / "o"), "--json"]
    assert build_dataset.main(line) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    assert set(result["files"]) == {"o_text_document.bin", "o_text_document.idx"}
    assert json.loads(printed.err.splitlines()[-1])["progress"] == 1.0
    assert build_dataset.main([*line, "--json-keys", "other"]) == 1
    assert "has no key other" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
