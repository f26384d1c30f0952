# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing a .bin/.idx pair with the documents it was made from, whoever made it."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

import numpy as np
from _common import Progress, WorkerError
from _encode import Column, Part, Setting, encoded_blocks
from _indexed import PairReader
from _records import read_blocks

AGAIN = "Do not train on this pair: build it again, with the native engine."


class _Reading:
    """One pair and how far it has been compared."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.pair = PairReader(prefix)
        self.documents = 0
        self.tokens = 0

    def compare(self, column: Column) -> None:
        wanted = np.frombuffer(column.lengths, dtype="<i4")
        lengths = self.pair.lengths[self.documents : self.documents + len(wanted)]
        tokens = np.frombuffer(column.tokens, dtype="<i4")
        if not np.array_equal(lengths, wanted):
            self._refuse_lengths(lengths, wanted)
        if not np.array_equal(self.pair.tokens[self.tokens : self.tokens + len(tokens)], tokens):
            self._refuse_tokens(tokens, wanted)
        pointers = self.pair.pointers[self.documents : self.documents + len(wanted)]
        if not np.array_equal(pointers, 4 * (self.tokens + np.cumsum(wanted, dtype="<i8") - wanted)):
            raise WorkerError(f"{self.prefix}.idx: its pointers do not follow from its lengths", AGAIN)
        self.documents += len(wanted)
        self.tokens += len(tokens)

    def _refuse_lengths(self, lengths: np.ndarray, wanted: np.ndarray) -> None:
        if len(lengths) < len(wanted):
            total = len(self.pair.lengths)
            raise WorkerError(f"{self.prefix} has {total} documents, the input has more", AGAIN)
        at = int(np.argmax(lengths != wanted))
        raise WorkerError(
            f"{self.prefix}: document {self.documents + at} has {lengths[at]} tokens, its text gives {wanted[at]}",
            AGAIN,
        )

    def _refuse_tokens(self, tokens: np.ndarray, wanted: np.ndarray) -> None:
        found = self.pair.tokens[self.tokens : self.tokens + len(tokens)]
        at = int(np.argmax(found != tokens))
        document = self.documents + int(np.searchsorted(np.cumsum(wanted), at, side="right"))
        raise WorkerError(f"{self.prefix}: the tokens of document {document} are not those of its text", AGAIN)

    def finish(self) -> Dict[str, int]:
        total = len(self.pair.lengths)
        if self.documents != total:
            raise WorkerError(f"{self.prefix} has {total} documents, the input gives {self.documents}", AGAIN)
        return {"documents": self.documents, "tokens": self.tokens}


def compare_pairs(
    setting: Setting, files: List[Path], form: str, pairs: Dict[Part, Path], workers: int
) -> Dict[Part, Dict[str, int]]:
    """Tokenize the input again and compare every document; the first difference is an error that names it."""
    readings = {part: _Reading(prefix) for part, prefix in pairs.items()}
    progress = Progress(sum(path.stat().st_size for path in files), "bytes")
    for block in encoded_blocks(setting, read_blocks(files, form, setting.selection.fields), workers):
        for part, column in block.columns.items():
            readings[part].compare(column)
        progress.advance(block.read)
    return {part: reading.finish() for part, reading in readings.items()}
