# SPDX-License-Identifier: GPL-3.0-or-later
"""The model's tokenizer, as upstream's pre-processing uses it: special tokens added, nothing cut, nothing padded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List, Optional

import numpy as np
from _common import WorkerError, require_directory
from _words import word_encoder


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
        packed = [words.encode(text) if words.takes(text) else None for text in texts]
        self._compare_one(texts, packed)
        others = iter(self.encode([text for text, ids in zip(texts, packed) if ids is None]))
        return [_packed(next(others)) if ids is None else ids for ids in packed]

    def _compare_one(self, texts: List[str], packed: List[Optional[bytes]]) -> None:
        """Ask the library for one text of each call: an unknown kind of tokenizer must not go wrong in silence."""
        for text, ids in zip(texts, packed):
            if ids is not None:
                if _packed(self.encode([text])[0]) == ids:
                    return
                raise WorkerError(
                    f"encoding word by word differs from the tokenizer for {text[:80]!r}",
                    "Run with --whole-documents, and report this tokenizer.",
                )


def _packed(ids: List[int]) -> bytes:
    return np.array(ids, dtype="<i4").tobytes()
