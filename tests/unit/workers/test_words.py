# SPDX-License-Identifier: GPL-3.0-or-later
"""Encoding word by word gives exactly what the tokenizers library gives for whole documents, for any text that it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _common import WorkerError
from _tokenizer import Tokenizer as Loaded
from _words import SPLITS, WordEncoder, word_encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

RULES = list(SPLITS)
ASCII = st.text(st.characters(min_codepoint=0, max_codepoint=127), max_size=80)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# What the rules treat differently stands close together here.
TRICKY = st.text(st.sampled_from(list("aZ'sStTlLrReEvVdDmM019 _=(\t\n\r\x0b\x0c\x1c\x1f<|>")), max_size=60)
# Lines in and beyond ASCII: composed and combining letters, other spaces and line ends, letters that normalize to ASCII.
LINES = st.text(st.sampled_from(list("ab1 .\n\n\n\r\t'é\u0301\u212a\u037e\u0085\u00a0\u2028\u3000昇二")), max_size=60)


@pytest.fixture(scope="module")
def described(golden: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((golden / "tiny_hf" / "tokenizer.json").read_text())
    return loaded


def changed(described: dict[str, Any], **changes: Any) -> Tokenizer:
    return Tokenizer.from_str(json.dumps({**described, **changes}))


def with_rule(described: dict[str, Any], rule: str) -> dict[str, Any]:
    split, letters = described["pre_tokenizer"]["pretokenizers"]
    steps = [{**split, "pattern": {"Regex": rule}}, letters]
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}


@pytest.fixture
def load(described: dict[str, Any], golden: Path, tmp_path: Path) -> Callable[..., Loaded]:
    """Load the golden model's tokenizer with changes to its tokenizer.json."""

    def loaded(**changes: Any) -> Loaded:
        for path in (golden / "tiny_hf").glob("*token*"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / "tokenizer.json").write_text(json.dumps({**described, **changes}))
        return Loaded(tmp_path)

    return loaded


def upstreams(tokenizer: Loaded, text: str) -> bytes:
    """What upstream's call gives: one text at a time."""
    return np.array(tokenizer._inner(text=text)["input_ids"], dtype="<i4").tobytes()


@pytest.mark.parametrize("rule", RULES)
def test_equals_the_library_for_any_text(load: Callable[..., Loaded], described: dict[str, Any], rule: str) -> None:
    tokenizer = load(**with_rule(described, rule))
    assert tokenizer.by_words

    @settings(max_examples=400, deadline=None)
    @given(st.lists(ASCII | TRICKY | LINES | ANY, min_size=1, max_size=4))
    def compare(texts: list[str]) -> None:
        assert tokenizer.pack(texts) == [upstreams(tokenizer, text) for text in texts]

    compare()


def test_the_golden_sample(golden: Path) -> None:
    tokenizer = Loaded(golden / "tiny_hf")
    rows = [json.loads(line) for line in (golden / "sample_900.jsonl").read_text().splitlines()]
    texts = [row[key] for row in rows for key in ("instruction", "output")]
    assert tokenizer.pack(texts) == [upstreams(tokenizer, text) for text in texts]


def parts(words: WordEncoder | None, text: str) -> list[tuple[bool, str]]:
    assert words is not None
    return words.parts(text)


def test_what_could_differ_is_left_to_the_library(described: dict[str, Any]) -> None:
    words = word_encoder(changed(described))
    assert parts(words, "plain text\nof two lines") == [(True, "plain text\nof two lines")]
    assert parts(words, "é") == [(False, "é")]
    assert parts(words, "a<|im_end|>") == [(False, "a<|im_end|>")]
    mixed = "one\ntwo é\n  three\n\nfour\nfive é"
    assert parts(words, mixed) == [(True, "one\n"), (False, "two é\n  three\n\n"), (True, "four\n"), (False, "five é")]


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ({"content": "\u212aelvin", "normalized": True}, "one Kelvin"),
        ({"content": "a\nb"}, "é a\nb"),
        ({"content": "x", "lstrip": True}, "é\n! y"),
    ],
    ids=["normal form", "over a line break", "takes the space before it"],
)
def test_added_tokens_that_reach_further(
    load: Callable[..., Loaded], described: dict[str, Any], token: dict[str, Any], text: str
) -> None:
    plain = {"id": 1000, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    tokens = [*described["added_tokens"], {**plain, **token}]
    assert parts(word_encoder(changed(described, added_tokens=tokens)), text) == [(False, text)]
    tokenizer = load(added_tokens=tokens)
    assert tokenizer.pack([text]) == [upstreams(tokenizer, text)]


def test_tokens_around_every_text(load: Callable[..., Loaded]) -> None:
    begin = {"id": "<|im_start|>", "ids": [998], "tokens": ["<|im_start|>"]}
    single = [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    around = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
    }
    tokenizer = load(post_processor={**around, "special_tokens": {"<|im_start|>": begin}})
    assert tokenizer.by_words
    texts = ["", "a", "def f():\n", "one\ntwo é", "é"]
    assert tokenizer.pack(texts) == [upstreams(tokenizer, text) for text in texts]
    assert len(tokenizer.pack([""])[0]) == 4


def test_other_tokenizers_are_not_taken(described: dict[str, Any]) -> None:
    split, letters = described["pre_tokenizer"]["pretokenizers"]

    def steps(*list_of: dict[str, Any]) -> dict[str, Any]:
        return {"type": "Sequence", "pretokenizers": list(list_of)}

    others: list[dict[str, Any]] = [
        {"pre_tokenizer": None},
        {"pre_tokenizer": letters},
        {"pre_tokenizer": steps({**split, "pattern": {"Regex": r"\s+"}}, letters)},
        {"pre_tokenizer": steps({**split, "behavior": "Removed"}, letters)},
        {"pre_tokenizer": steps({**split, "invert": True}, letters)},
        {"pre_tokenizer": steps(split, {**letters, "add_prefix_space": True})},
        {"normalizer": {"type": "Lowercase"}},
        {"model": {**described["model"], "dropout": 0.1}},
    ]
    for changes in others:
        assert word_encoder(changed(described, **changes)) is None, changes


def test_memory_is_bounded(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("_words.REMEMBERED", 3)
    tokenizer = Loaded(golden / "tiny_hf")
    text = "one two three four five six"
    assert tokenizer.pack([text, text]) == [upstreams(tokenizer, text)] * 2
    assert tokenizer._words is not None
    assert 0 < len(tokenizer._words._words) <= 3


def test_a_difference_is_an_error_and_not_a_dataset(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Loaded(golden / "tiny_hf")
    assert tokenizer.by_words
    monkeypatch.setattr(WordEncoder, "encode", lambda self, text: b"\1\0\0\0")
    with pytest.raises(WorkerError, match="word by word differs"):
        tokenizer.pack(["some text"])
    tokenizer.use_whole_documents()
    assert tokenizer.pack(["some text"]) == [np.array(tokenizer.encode(["some text"])[0], dtype="<i4").tobytes()]
