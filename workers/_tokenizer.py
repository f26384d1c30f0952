# SPDX-License-Identifier: GPL-3.0-or-later
"""The model's tokenizer, as upstream's pre-processing uses it: special tokens added, nothing cut, nothing padded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List, Optional

from _common import WorkerError, require_directory


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

    def encode(self, texts: List[str]) -> List[List[int]]:
        """Token ids of each text."""
        if self._inner.is_fast:
            return [encoded.ids for encoded in self._inner.backend_tokenizer.encode_batch(texts)]
        return [self._inner(text=text)["input_ids"] for text in texts]
