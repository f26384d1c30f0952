# SPDX-License-Identifier: GPL-3.0-or-later
"""Input of which a part could be lost without a word, and input that is read in a second form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import _records
import build_dataset
import pyarrow
import pytest
from _common import WorkerError
from build_dataset import Options
from pyarrow import parquet


@pytest.fixture(scope="module")
def tokenizer(golden: Path) -> Path:
    return golden / "tiny_hf"


def texts(source: Path) -> list[Any]:
    """Return the records of a source; the rest of the program is not needed to see what is read."""
    files, form = _records.find_inputs(source)
    return [record for block in _records.read_blocks(files, form, ["text"]) for record in block.payload]


def refusal(source: Path) -> str:
    with pytest.raises(WorkerError) as caught:
        texts(source)
    assert caught.value.remedy
    return caught.value.message


A, B = '{"text": "a"}', '{"text": "b"}'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"[{A}]\n[{B}]", "goes on with '[' after the end of its array"),
        (f"[{A}] " + '{"text": broken', "goes on with '{' after the end"),
        (f"[{A}]" + " " * 99 + "x", "goes on with 'x' after the end"),
        (f"[{A} {B}]", "after record 1, is not JSON: there is '{' and no comma"),
        (f"[{A}, {B}", "after record 2, is not JSON: there is the end of the file"),
        (f"[{A},, {B}]", "record 2, is not JSON: there is nothing before ','"),
        (f"[,{A}]", "record 1, is not JSON: there is nothing before ','"),
        (f"[{A},]", "record 2, is not JSON: there is nothing before ']'"),
        (f"[{A}, ", "record 2, is not JSON"),
        ("[", "record 1, is not JSON"),
        ("[1 2.5]", "after record 1, is not JSON: there is '2'"),
    ],
)
@pytest.mark.parametrize("piece", [1, 5, 1 << 20])
def test_json_that_is_not_one_array(
    tmp_path: Path, content: str, words: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_records, "BLOCK_BYTES", piece)
    (tmp_path / "x.json").write_text(content)
    assert words in refusal(tmp_path / "x.json")


@pytest.mark.parametrize("piece", [1, 2, 3, 1 << 20])
def test_json_array_in_pieces(tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_records, "BLOCK_BYTES", piece)
    (tmp_path / "x.json").write_text(f' [\n{A} , [1.5e+3, {{}}], 12.5e+1,"昇"\n,-7, null]\n \n', encoding="utf-8")
    assert texts(tmp_path / "x.json") == [{"text": "a"}, [1500.0, {}], 125.0, "昇", -7, None]
    (tmp_path / "x.json").write_text("[ ]")
    assert texts(tmp_path / "x.json") == []
    (tmp_path / "x.json").write_bytes(f"[{A}] \n".encode() + "昇".encode()[:2])
    assert "is not UTF-8" in refusal(tmp_path / "x.json")


def test_csv_with_more_or_fewer_fields_than_its_header(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_records, "BLOCK_RECORDS", 2)
    source = tmp_path / "x.csv"
    source.write_text('id,text\n\n1,"two\nlines"\n2,good\n3,Hello, world\n4\n5,last\n')
    with pytest.raises(WorkerError, match="line 6 has 3 fields, the header 2"):
        build_dataset.build(source, tokenizer, tmp_path / "o", ["text"], Options())
    result = build_dataset.build(source, tokenizer, tmp_path / "o", ["text"], Options(skip_bad=2, workers=2))
    assert (result["records"], result["rejected"]) == (3, 2)
    rejects = [json.loads(line) for line in (tmp_path / "o_rejects.jsonl").read_text().splitlines()]
    assert [one["where"] for one in rejects] == [f"{source}, line 6", f"{source}, line 7"]
    assert [one["why"] for one in rejects] == ["has 3 fields, the header 2", "has no key text (it has: id)"]
    assert json.loads(rejects[0]["record"]) == ["3", "Hello", " world"]
    source.write_text("text,id\ngood\n")  # what is not there is not asked for
    assert texts(source) == [{"text": "good"}]
    source.write_text("text,id,text\na,1,b\n")
    assert "names the column 'text' more than once" in refusal(source)


def test_what_a_directory_would_hide(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(A)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "b.jsonl").write_text(B)
    (tmp_path / ".lock").symlink_to("gone")
    (tmp_path / "empty").mkdir()
    assert _records.find_inputs(tmp_path) == ([tmp_path / "a.jsonl"], "jsonl")
    (tmp_path / "b.jsonl").symlink_to("gone.jsonl")
    assert f"{tmp_path}/b.jsonl is a link to gone.jsonl, which does not exist" in refusal(tmp_path)
    (tmp_path / "b.jsonl").unlink()
    os.mkfifo(tmp_path / "b.jsonl")
    assert "b.jsonl is no regular file" in refusal(tmp_path)
    (tmp_path / "b.jsonl").unlink()
    (tmp_path / "empty" / "more").mkdir()
    (tmp_path / "empty" / "more" / "b.jsonl").write_text(B)
    assert f"has the subdirectory empty, which holds files ({tmp_path}/empty/more/b.jsonl)" in refusal(tmp_path)


def arrow(path: Path, new: Any, **options: Any) -> Path:
    table = pyarrow.table({"text": [f"text {number}" for number in range(5000)], "id": range(5000)})
    with pyarrow.OSFile(str(path), "wb") as sink, new(sink, table.schema, **options) as stream:
        stream.write_table(table)
    return path


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_arrow_in_its_file_format(tmp_path: Path, compression: str | None) -> None:
    options = pyarrow.ipc.IpcWriteOptions(compression=compression)
    source = arrow(tmp_path / "x.arrow", pyarrow.ipc.new_file, options=options)
    wanted = [{"text": f"text {number}"} for number in range(5000)]
    assert texts(source) == wanted
    blocks = list(_records.read_blocks([source], "arrow", ["text"]))
    assert [block.first for block in blocks] == [1, 2001, 4001]  # though it was written as one batch
    assert texts(arrow(source, pyarrow.ipc.new_stream)) == wanted


def _resident() -> int:
    """Kilobytes of mapped files that this process holds in memory, and of what pyarrow allocated."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssFile:")[2].split()[0]) + pyarrow.total_allocated_bytes() // 1024


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_columns_written_in_one_piece_are_read_in_many(tmp_path: Path, name: str) -> None:
    """Writers put a million rows and more into one row group or batch; memory must not grow with it."""
    size, source = 48 << 20, tmp_path / name
    table = pyarrow.table({"text": [os.urandom(size // 20_000 // 2).hex() for _ in range(20_000)]})
    if name == "x.parquet":
        pyarrow.parquet.write_table(table, source, compression="none", use_dictionary=False, row_group_size=20_000)
    else:
        with pyarrow.OSFile(str(source), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as stream:
            stream.write_table(table)
    del table
    before, most = _resident(), 0
    for _ in _records.read_blocks([source], name[2:], ["text"]):
        most = max(most, _resident() - before)
    assert source.stat().st_size > size
    assert most < 24 * 1024


def test_damaged_columns_are_named(tmp_path: Path) -> None:
    for name, new in (("file", pyarrow.ipc.new_file), ("stream", pyarrow.ipc.new_stream)):
        source = arrow(tmp_path / f"{name}.arrow", new)
        source.write_bytes(source.read_bytes()[:-20000])
        assert f"{source} cannot be read as arrow: " in refusal(source)
    source = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"text": ["text " * 9] * 999}), source, compression="zstd")
    data = bytearray(source.read_bytes())
    data[4:60] = bytes(56)  # the header of the first page
    source.write_bytes(data)
    assert f"{source} cannot be read as parquet: " in refusal(source)
    odd = pyarrow.array([b"good", b"\xff"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": odd}), source)
    assert f"{source}, at or after record 1, is not UTF-8" in refusal(source)


DEEP = "[" * 100_000
LONG = '{"text": "a", "id": ' + "1" * 5000 + "}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"\\ud800": "a"}', r"has no key text (it has: \ud800)"),
        (LONG, "cannot be read: Exceeds the limit"),
        (DEEP, "cannot be read: maximum recursion depth"),
    ],
)
def test_odd_records_are_named_and_set_aside(
    golden: Path, workers: Path, tmp_path: Path, line: str, words: str
) -> None:
    """In a process of its own: whether an answer can be printed depends on the real stdout."""
    (tmp_path / "x.jsonl").write_text(f"{A}\n{line}\n")
    argv = [sys.executable, str(workers / "build_dataset.py"), "--input", str(tmp_path / "x.jsonl"), "--tokenizer"]
    argv += [str(golden / "tiny_hf"), "--output-prefix", str(tmp_path / "o"), "--json"]
    ran = subprocess.run(argv, capture_output=True, text=True, encoding="utf-8", check=False)
    assert ran.returncode == 1
    error = json.loads(ran.stdout.splitlines()[-1])["error"]
    assert f"{tmp_path}/x.jsonl, line 2" in error
    assert words in error
    ran = subprocess.run([*argv, "--skip-bad", "1"], capture_output=True, text=True, encoding="utf-8", check=False)
    assert json.loads(ran.stdout.splitlines()[-1])["rejected"] == 1
    [reject] = [json.loads(one) for one in (tmp_path / "o_rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert reject["record"] == line


@pytest.mark.parametrize("record", [DEEP, LONG])
def test_odd_records_of_an_array_are_named(tmp_path: Path, record: str) -> None:
    (tmp_path / "x.json").write_text(f"[{A}, {record}")
    assert "record 2, cannot be read: " in refusal(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("keys", "options", "words"),
    [
        (["a/b"], Options(), "key 'a/b' cannot be part of a file name"),
        ([""], Options(), "key '' cannot be"),
        (["text"], Options(workers=0), "--workers 0 is not positive"),
        (["text"], Options(workers=-3), "--workers -3 is not positive"),
        (["text"], Options(skip_bad=-1), "--skip-bad -1 is negative"),
    ],
)
def test_options_that_are_refused(
    tokenizer: Path, tmp_path: Path, keys: list[str], options: Options, words: str
) -> None:
    (tmp_path / "x.jsonl").write_text(A)
    for work in (build_dataset.build, build_dataset.verify):
        with pytest.raises(WorkerError, match=words):
            work(tmp_path / "x.jsonl", tokenizer, tmp_path / "o", keys, options)
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]
