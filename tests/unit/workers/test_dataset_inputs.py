# SPDX-License-Identifier: GPL-3.0-or-later
"""Input of which a part could be lost without a word, and input that is read in a second form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import _records
import pytest
from _common import WorkerError


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
