# SPDX-License-Identifier: GPL-3.0-or-later
"""Encoding word by word gives exactly what the tokenizers library gives for whole documents, for any text that it takes."""

from __future__ import annotations

import json
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
# What the rules treat differently stands close together here.
TRICKY = st.text(st.sampled_from(list("aZ'sStTlLrReEvVdDmM019 _=(\t\n\r\x0b\x0c\x1c\x1f<|>")), max_size=60)


@pytest.fixture(scope="module")
def described(golden: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((golden / "tiny_hf" / "tokenizer.json").read_text())
    return loaded


def changed(described: dict[str, Any], **changes: Any) -> Tokenizer:
    return Tokenizer.from_str(json.dumps({**described, **changes}))


def with_rule(described: dict[str, Any], rule: str) -> Tokenizer:
    split, letters = described["pre_tokenizer"]["pretokenizers"]
    steps = [{**split, "pattern": {"Regex": rule}}, letters]
    return changed(described, pre_tokenizer={"type": "Sequence", "pretokenizers": steps})


def by_words(tokenizer: Tokenizer) -> WordEncoder:
    words = word_encoder(tokenizer)
    assert words is not None
    return words


def whole(tokenizer: Tokenizer, text: str) -> bytes:
    return np.array(tokenizer.encode(text).ids, dtype="<i4").tobytes()


@pytest.mark.parametrize("rule", RULES)
def test_equals_the_library_for_any_text(described: dict[str, Any], rule: str) -> None:
    tokenizer = with_rule(described, rule)
    words = by_words(tokenizer)

    @settings(max_examples=300, deadline=None)
    @given(ASCII | TRICKY)
    def compare(text: str) -> None:
        if words.takes(text):
            assert words.encode(text) == whole(tokenizer, text)

    compare()


def test_the_golden_sample(described: dict[str, Any], golden: Path) -> None:
    tokenizer = changed(described)
    words = by_words(tokenizer)
    texts = [json.loads(line)["output"] for line in (golden / "sample_900.jsonl").read_text().splitlines()]
    taken = [text for text in texts if words.takes(text)]
    assert len(taken) > 800
    assert all(words.encode(text) == whole(tokenizer, text) for text in taken)


def test_what_could_differ_is_left_to_the_library(described: dict[str, Any]) -> None:
    words = by_words(changed(described))
    assert words.takes("plain text")
    assert not words.takes("é")
    assert not words.takes("a<|im_end|>")


def test_an_added_token_is_also_found_in_its_normal_form(described: dict[str, Any]) -> None:
    token = {"id": 1021, "content": "\u212aelvin", "single_word": False, "lstrip": False, "rstrip": False}
    token |= {"normalized": True, "special": False}
    words = by_words(changed(described, added_tokens=[*described["added_tokens"], token]))
    assert not words.takes("one Kelvin")


def test_tokens_around_every_text(described: dict[str, Any]) -> None:
    begin = {"id": "<|im_start|>", "ids": [998], "tokens": ["<|im_start|>"]}
    single = [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    around = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
    }
    tokenizer = changed(described, post_processor={**around, "special_tokens": {"<|im_start|>": begin}})
    words = by_words(tokenizer)
    for text in ("", "a", "def f():\n"):
        assert words.encode(text) == whole(tokenizer, text)
    assert len(words.encode("")) == 4


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


def test_memory_is_bounded(described: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("_words.REMEMBERED", 3)
    tokenizer = changed(described)
    words = by_words(tokenizer)
    text = "one two three four five six"
    assert words.encode(text) == words.encode(text) == whole(tokenizer, text)
    assert len(words._words) == 3


def test_a_difference_is_an_error_and_not_a_dataset(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Loaded(golden / "tiny_hf")
    assert tokenizer.by_words
    monkeypatch.setattr(WordEncoder, "encode", lambda self, text: b"\1\0\0\0")
    with pytest.raises(WorkerError, match="word by word differs"):
        tokenizer.pack(["some text"])
    tokenizer.use_whole_documents()
    assert tokenizer.pack(["some text"]) == [np.array(tokenizer.encode(["some text"])[0], dtype="<i4").tobytes()]
