# SPDX-License-Identifier: GPL-3.0-or-later
"""Byte-level BPE of plain ASCII text, word by word, several times as fast as handing whole documents to the tokenizer.

The tokenizers library spends most of its time on keeping, through normalizing and splitting, where each piece of a text came from.
A data set needs none of that. For the tokenizers named in ``SPLITS`` a document is cut into words by the same rule, and each *different*
word is encoded once, by the library itself. Whatever could make a difference goes to the library: lines that are not ASCII, text
that contains an added token, every tokenizer that is not exactly of this kind. Tests compare the two for arbitrary text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Dict, List, Optional, Pattern, Tuple

import numpy as np

# The rule by which a tokenizer cuts text into words, and what it is for ASCII text alone.
_CUT = r"[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{}| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_RULE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
SPLITS = {
    _RULE % "": _ENDINGS + _CUT.format(""),  # Qwen2, Qwen2.5
    _RULE % "{1,3}": _ENDINGS + _CUT.format("{1,3}"),  # Llama 3
}
NORMALIZERS = (None, "NFC")  # leave ASCII as it is
REMEMBERED = 250_000  # words; about 40 MB a process. Then all are forgotten: the words of other documents may be others


# No word of any rule goes on from a line break to a character that is neither space nor line break, normalizing joins nothing to a line
# break, and no rule looks back.
_BREAK = re.compile(r"(?<=\n)(?=[!-~])")


@dataclass(frozen=True)
class Added:
    """``texts`` are all in which an added token could be found; ``within_lines`` says that none reaches over a line break."""

    texts: List[str]
    within_lines: bool


class _Words(Dict[str, bytes]):
    """Word -> its token ids as little-endian int32."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self._encoder = encoder

    def __missing__(self, word: str) -> bytes:
        ids = np.array(self._encoder.encode(word, add_special_tokens=False).ids, dtype="<i4").tobytes()
        if len(self) >= REMEMBERED:
            self.clear()
        self[word] = ids
        return ids


Part = Tuple[bool, str]


class WordEncoder:
    """Encodes texts exactly as the tokenizer it was made from. ``before`` and ``after`` are what that puts around every text."""

    def __init__(self, split: str, added: Added, encoder: Any, before: bytes, after: bytes) -> None:
        self._cut = re.compile(split, re.ASCII).findall
        self._added: Optional[Pattern[str]] = re.compile("|".join(map(re.escape, added.texts))) if added.texts else None
        self._in_parts = added.within_lines
        self._words = _Words(encoder)
        self.before = before
        self.after = after

    def parts(self, text: str) -> List[Part]:
        """Cut a text where cutting changes nothing: (True, what is encoded here) and (False, what the library encodes)."""
        ascii_only = text.isascii()
        if (self._added is not None and self._added.search(text)) or not (ascii_only or self._in_parts):
            return [(False, text)]
        if ascii_only:
            return [(True, text)]
        return [(ours, "".join(lines)) for ours, lines in groupby(_BREAK.split(text), str.isascii)]

    def encode(self, text: str) -> bytes:
        """The token ids of a part, as little-endian int32."""
        return b"".join(map(self._words.__getitem__, self._cut(text)))


def word_encoder(tokenizer: Any) -> Optional[WordEncoder]:
    """Return the encoder for a tokenizers.Tokenizer, or None where it is not of a kind for which words are enough."""
    described = json.loads(tokenizer.to_str())
    split = _split(described)
    model = described["model"]
    if split is None or model.get("type") != "BPE" or model.get("dropout"):
        return None
    if (
        (described["normalizer"] or {}).get("type") not in NORMALIZERS
        or described["truncation"]
        or described["padding"]
    ):
        return None
    around = _around(tokenizer)
    if around is None:
        return None
    words_only = {**described, "normalizer": None, "post_processor": None, "added_tokens": []}
    words_only["pre_tokenizer"] = {**BYTE_LEVEL, "trim_offsets": True}
    encoder = type(tokenizer).from_str(json.dumps(words_only))
    return WordEncoder(SPLITS[split], _added(tokenizer, described), encoder, *around)


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def _split(described: Dict[str, Any]) -> Optional[str]:
    """The rule of a tokenizer that cuts by one of the known rules and then only writes bytes as letters."""
    steps = (described["pre_tokenizer"] or {}).get("pretokenizers", [])
    if len(steps) != 2 or steps[0]["type"] != "Split":
        return None
    rule = steps[0]["pattern"].get("Regex")
    isolated = steps[0]["behavior"] == "Isolated" and not steps[0]["invert"]
    plain = {key: steps[1].get(key) for key in BYTE_LEVEL} == BYTE_LEVEL
    return rule if rule in SPLITS and isolated and plain else None


def _added(tokenizer: Any, described: Dict[str, Any]) -> Added:
    """A normalized token is also found in its normal form."""
    tokens = described["added_tokens"]
    contents = [token["content"] for token in tokens]
    normalizer = tokenizer.normalizer
    normal = [normalizer.normalize_str(content) for content in contents] if normalizer is not None else []
    across = any(token.get("lstrip") or "\n" in token["content"] for token in tokens)
    return Added(sorted({*contents, *normal}), not across)


def _around(tokenizer: Any) -> Optional[List[bytes]]:
    """What the tokenizer puts before and after every text, or None where that depends on the text."""
    ends = []
    for sample in ("a", "b = 1"):
        bare, full = tokenizer.encode(sample, add_special_tokens=False).ids, tokenizer.encode(sample).ids
        starts = [at for at in range(len(full) - len(bare) + 1) if full[at : at + len(bare)] == bare]
        if len(starts) != 1:
            return None
        ends.append((full[: starts[0]], full[starts[0] + len(bare) :]))
    if ends[0] != ends[1]:
        return None
    return [np.array(ids, dtype="<i4").tobytes() for ids in ends[0]]
