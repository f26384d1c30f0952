# SPDX-License-Identifier: GPL-3.0-or-later
"""What a dataset can be asked for beyond its keys: a template, a part for validation, bad records set aside, a second look."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import build_dataset
import numpy as np
import pytest
from _common import WorkerError
from _documents import Template
from _indexed import PairReader
from build_dataset import Options
from transformers import AutoTokenizer


@pytest.fixture(scope="module")
def tokenizer(golden: Path) -> Path:
    return golden / "tiny_hf"


@pytest.fixture(scope="module")
def decode(tokenizer: Path) -> Any:
    loaded = AutoTokenizer.from_pretrained(str(tokenizer), local_files_only=True)

    def texts(prefix: Path) -> list[str]:
        reader = PairReader(prefix)
        return [loaded.decode(reader.document(number)) for number in range(len(reader.lengths))]

    return texts


def jsonl(path: Path, records: list[Any]) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records))
    return path


RECORDS: list[Any] = [{"ask": f"question {n}", "tell": f"answer {n}"} for n in range(200)]


def test_template_makes_one_text_of_several_keys(tokenizer: Path, tmp_path: Path, decode: Any) -> None:
    source = jsonl(
        tmp_path / "x.jsonl", [{"ask": "1+1", "tell": "{2}"}, {"ask": "", "tell": ""}, {"ask": "", "tell": "x"}]
    )
    result = build_dataset.build(
        source, tokenizer, tmp_path / "o", ["text"], Options(template="{ask}\n{tell} {{end}} {ask}")
    )
    assert decode(tmp_path / "o_text_document") == ["1+1\n{2} {end} 1+1", "\nx {end} "]
    assert result["keys"]["text"]["empty"] == 1


def test_template_with_columns(tokenizer: Path, tmp_path: Path, decode: Any) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"ask": ["a"], "tell": ["b"], "other": [1]}), tmp_path / "x.parquet")
    build_dataset.build(tmp_path / "x.parquet", tokenizer, tmp_path / "o", ["text"], Options(template="{tell}-{ask}"))
    assert decode(tmp_path / "o_text_document") == ["b-a"]


@pytest.mark.parametrize("text", ["no key", "{", "{}", "{a!r}", "{a:>3}", "{a.b}", "{0}"])
def test_templates_that_are_refused(text: str) -> None:
    with pytest.raises(WorkerError, match="template"):
        Template.parse(text)


def test_template_needs_one_key_and_the_records_its_fields(tokenizer: Path, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", RECORDS)
    with pytest.raises(WorkerError, match="a template makes one text"):
        build_dataset.build(source, tokenizer, tmp_path / "o", ["a", "b"], Options(template="{ask}"))
    with pytest.raises(WorkerError, match="line 1 has no key missing"):
        build_dataset.build(source, tokenizer, tmp_path / "o", ["text"], Options(template="{missing}"))


@pytest.mark.parametrize("workers", [1, 2])
def test_validation_is_split_off_by_content(tokenizer: Path, tmp_path: Path, decode: Any, workers: int) -> None:
    source = jsonl(tmp_path / "x.jsonl", RECORDS + RECORDS[:50])
    options = Options(validation=0.2, workers=workers)
    result = build_dataset.build(source, tokenizer, tmp_path / "o", ["ask", "tell"], options)
    train, valid = (decode(tmp_path / f"o{part}_tell_document") for part in ("", "_valid"))
    assert not set(train) & set(valid)
    assert len(train) + len(valid) == 250
    assert 20 <= len(set(valid)) <= 60
    asked = decode(tmp_path / "o_valid_ask_document")
    assert [text.replace("question", "answer") for text in asked] == valid
    assert result["validation"]["tell"]["documents"] == len(valid)
    backwards = jsonl(tmp_path / "y.jsonl", RECORDS[::-1])
    build_dataset.build(backwards, tokenizer, tmp_path / "p", ["ask", "tell"], options)
    assert set(decode(tmp_path / "p_valid_tell_document")) == set(valid)


def test_validation_that_would_be_empty(tokenizer: Path, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", RECORDS[:2])
    with pytest.raises(WorkerError, match="no record of .* for validation"):
        build_dataset.build(source, tokenizer, tmp_path / "o", ["ask"], Options(validation=1e-9))
    with pytest.raises(WorkerError, match="no share below 1"):
        build_dataset.build(source, tokenizer, tmp_path / "o", ["ask"], Options(validation=1.0))
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


BAD: list[Any] = [RECORDS[0], "not json", {"ask": None, "tell": "x"}, RECORDS[1], {"tell": "no ask"}]


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_records_go_to_a_file_of_their_own(tokenizer: Path, tmp_path: Path, decode: Any, workers: int) -> None:
    source = jsonl(tmp_path / "x.jsonl", BAD)
    options = Options(skip_bad=3, workers=workers)
    result = build_dataset.build(source, tokenizer, tmp_path / "o", ["ask", "tell"], options)
    assert decode(tmp_path / "o_ask_document") == ["question 0", "question 1"]
    assert (result["records"], result["rejected"]) == (2, 3)
    assert {key: one["skipped"] for key, one in result["keys"].items()} == {"ask": 3, "tell": 3}
    rejects = [json.loads(line) for line in Path(result["rejects_file"]).read_text().splitlines()]
    assert [one["where"].rpartition(" ")[2] for one in rejects] == ["2", "3", "5"]
    assert [one["record"] for one in rejects] == ["not json", '{"ask": null, "tell": "x"}', '{"tell": "no ask"}']
    assert rejects[1]["why"] == "ask is null, not text"
    build_dataset.build(jsonl(source, RECORDS), tokenizer, tmp_path / "o", ["ask", "tell"], options)
    assert not Path(result["rejects_file"]).exists()


def test_one_bad_record_too_many(tokenizer: Path, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", BAD)
    with pytest.raises(WorkerError, match=r"line 5: has no key ask .*bad record 3, --skip-bad allows 2"):
        build_dataset.build(source, tokenizer, tmp_path / "o", ["ask", "tell"], Options(skip_bad=2))
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


@pytest.fixture
def pair(tokenizer: Path, tmp_path: Path) -> Path:
    source = jsonl(tmp_path / "x.jsonl", RECORDS)
    build_dataset.build(source, tokenizer, tmp_path / "o", ["ask", "tell"], Options(append_eod=True))
    return tmp_path


def look(directory: Path, tokenizer: Path, **options: Any) -> dict[str, Any]:
    given = {"append_eod": True, **options}
    return build_dataset.verify(directory / "x.jsonl", tokenizer, directory / "o", ["ask", "tell"], Options(**given))


def test_a_good_pair_is_read_back_without_being_touched(pair: Path, tokenizer: Path) -> None:
    before = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pair.iterdir()}
    for workers in (1, 2):
        assert look(pair, tokenizer, workers=workers)["keys"]["ask"]["documents"] == 200
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pair.iterdir()} == before


def test_differences_are_named(pair: Path, tokenizer: Path) -> None:
    def refusal(**options: Any) -> str:
        with pytest.raises(WorkerError) as caught:
            look(pair, tokenizer, **options)
        return caught.value.message

    assert "document 0 has" in refusal(append_eod=False)
    data = pair / "o_tell_document.bin"
    good = data.read_bytes()
    tokens = np.frombuffer(good, dtype="<i4").copy()
    reader = PairReader(pair / "o_tell_document")
    tokens[int(reader.pointers[7]) // 4 + 1] += 1
    data.write_bytes(tokens.tobytes())
    assert "o_tell_document: the tokens of document 7 are not those of its text" in refusal()
    data.write_bytes(good)
    jsonl(pair / "x.jsonl", [*RECORDS, RECORDS[0]])
    assert "has 200 documents, the input has more" in refusal()
    jsonl(pair / "x.jsonl", RECORDS[:-1])
    assert "has 200 documents, the input gives 199" in refusal()
    data.write_bytes(good[:-4])
    assert "its index describes" in refusal()


def test_memory_does_not_grow_with_the_input(tokenizer: Path, tmp_path: Path) -> None:
    """What waits between reader, workers and writer is bounded, whatever the length of the input."""
    from _encode import encoded_blocks
    from _records import Block

    taken, most = 0, 0

    def blocks() -> Any:
        nonlocal taken
        for number in range(60):
            taken += 1
            yield Block(tmp_path, "record", number, [RECORDS[number]], 1)

    setting = build_dataset.make_setting(tokenizer, ["ask"], Options())
    for done, _ in enumerate(encoded_blocks(setting, blocks(), 2)):
        most = max(most, taken - done)
    assert taken == 60
    assert most <= 3 * 2 + 1
