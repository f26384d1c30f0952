# SPDX-License-Identifier: GPL-3.0-or-later
"""The model's tokenizer, as upstream's pre-processing uses it: special tokens added, nothing cut, nothing padded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List, Optional

import numpy as np
from _common import WorkerError, require_directory
from _words import Part, word_encoder


class Tokenizer:
    """``eod`` is the end-of-sequence id or None; ``pad`` the id Megatron takes for padding, or None."""

    def __init__(self, directory: Path, trust_remote_code: bool = False) -> None:
        require_directory(directory, "tokenizer")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        from transformers import AutoTokenizer  # type: ignore[import-untyped]

        try:
            self._inner: Any = AutoTokenizer.from_pretrained(
                str(directory), local_files_only=True, use_fast=True, trust_remote_code=trust_remote_code
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise WorkerError(
                f"the tokenizer in {directory} cannot be loaded: {str(error).strip().splitlines()[0]}",
                "Copy tokenizer.json and tokenizer_config.json of the model; own code in a tokenizer needs --trust-remote-code.",
            ) from error
        self.eod: Optional[int] = self._inner.eos_token_id
        pad = self._inner.pad_token_id
        self.pad: Optional[int] = self.eod if pad is None else pad
        self.size = len(self._inner)
        if self._inner.is_fast:
            self._inner.backend_tokenizer.no_truncation()
            self._inner.backend_tokenizer.no_padding()
        self._words = word_encoder(self._inner.backend_tokenizer) if self._inner.is_fast else None

    @property
    def by_words(self) -> bool:
        """Whether plain ASCII text is encoded word by word."""
        return self._words is not None

    def use_whole_documents(self) -> None:
        """Hand every text to the library as a whole."""
        self._words = None

    def encode(self, texts: List[str]) -> List[List[int]]:
        """Token ids of each text."""
        if self._inner.is_fast:
            return [encoded.ids for encoded in self._inner.backend_tokenizer.encode_batch(texts)]
        return [self._inner(text=text)["input_ids"] for text in texts]

    def pack(self, texts: List[str]) -> List[bytes]:
        """Token ids of each text as little-endian int32."""
        words = self._words
        if words is None:
            return [_packed(ids) for ids in self.encode(texts)]
        cut = [words.parts(text) for text in texts]
        whole = iter(self.encode([text for text, parts in zip(texts, cut) if _is_whole(parts)]))
        others = [text for parts in cut if not _is_whole(parts) for ours, text in parts if not ours]
        pieces = iter(self._encode_bare(others))
        packed: List[bytes] = []
        for parts in cut:
            if _is_whole(parts):
                packed.append(_packed(next(whole)))
                continue
            ids = [words.encode(text) if ours else _packed(next(pieces)) for ours, text in parts]
            packed.append(b"".join([words.before, *ids, words.after]))
        self._compare_one(texts, cut, packed)
        return packed

    def _encode_bare(self, texts: List[str]) -> List[List[int]]:
        """Token ids without what stands around every text."""
        encoded = self._inner.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        return [one.ids for one in encoded]

    def _compare_one(self, texts: List[str], cut: List[List[Part]], packed: List[bytes]) -> None:
        """Ask the library for one text of each call: an unknown kind of tokenizer must not go wrong in silence."""
        ours = [number for number, parts in enumerate(cut) if not _is_whole(parts)]
        if not ours:
            return
        number = max(ours, key=lambda one: min(len(cut[one]), 2))  # the first that was cut, if one was
        if _packed(self.encode([texts[number]])[0]) != packed[number]:
            raise WorkerError(
                f"encoding word by word differs from the tokenizer for {texts[number][:80]!r}",
                "Run with --whole-documents, and report this tokenizer.",
            )


def _is_whole(parts: List[Part]) -> bool:
    """Whether the library encodes the text as it is."""
    return len(parts) == 1 and not parts[0][0]


def _packed(ids: List[int]) -> bytes:
    return np.array(ids, dtype="<i4").tobytes()
