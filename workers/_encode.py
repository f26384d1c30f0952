# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks of records to token ids, in several processes and in the order of the input."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Deque, Dict, Iterator, List, Optional, Tuple

import numpy as np
from _common import WorkerError, forked_pool
from _documents import Documents, Reject, Selection, documents_of
from _records import Block
from _tokenizer import Tokenizer

TRAIN, VALIDATION = "", "valid"
Part = Tuple[str, str]  # TRAIN or VALIDATION, and the key


@dataclass(frozen=True)
class Column:
    """The tokenized documents of one part and key of a block; ``empty`` counts the skipped ones."""

    tokens: bytes
    lengths: bytes
    empty: int


@dataclass(frozen=True)
class Setting:
    """What every process needs to tokenize a block."""

    tokenizer: Tokenizer
    selection: Selection
    append_eod: bool

    @property
    def parts(self) -> List[Part]:
        """The pairs of files that are written."""
        names = [TRAIN, VALIDATION] if self.selection.validation else [TRAIN]
        return [(name, key) for name in names for key in self.selection.keys]


@dataclass(frozen=True)
class Encoded:
    """``read`` counts bytes of the input, ``records`` those that were good, ``uneven`` by part those with text for some keys only."""

    read: int
    records: int
    columns: Dict[Part, Column]
    rejects: List[Reject]
    uneven: Dict[str, int]


def encode_block(setting: Setting, block: Block) -> Encoded:
    """Tokenize one block."""
    documents = documents_of(block, setting.selection)
    texts = {part: _of_part(documents, part) for part in setting.parts}
    columns = {part: _encode(setting, ours) for part, ours in texts.items()}
    return Encoded(block.read, len(documents.validation), columns, documents.rejects, _uneven(texts))


def _uneven(texts: Dict[Part, List[str]]) -> Dict[str, int]:
    """How many records of each part have text for some keys and none for others."""
    counts = {}
    for name in {part[0] for part in texts}:
        rows = zip(*(ours for part, ours in texts.items() if part[0] == name))
        counts[name] = sum(1 for row in rows if "" in row and any(row))
    return counts


def _of_part(documents: Documents, part: Part) -> List[str]:
    name, key = part
    wanted = name == VALIDATION
    return [text for text, validation in zip(documents.texts[key], documents.validation) if validation == wanted]


def _encode(setting: Setting, texts: List[str]) -> Column:
    """An empty text is skipped for its key alone; one that gives no tokens stays a document of length 0, as upstream."""
    present = [text for text in texts if text]
    packed = setting.tokenizer.pack(present)
    lengths = np.fromiter(map(len, packed), dtype="<i4", count=len(packed)) // 4
    joint = b""
    if setting.append_eod:
        joint = np.array([setting.tokenizer.eod], dtype="<i4").tobytes()
        lengths += 1
    tokens = joint.join([*packed, b""]) if packed else b""
    return Column(tokens, lengths.astype("<i4").tobytes(), len(texts) - len(present))


_SETTING: Optional[Setting] = None


def _encode_in_child(block: Block) -> Encoded:
    if _SETTING is None:
        raise WorkerError("a worker process was started without its tokenizer", "Run with --workers 1.")
    return encode_block(_SETTING, block)


def encoded_blocks(setting: Setting, blocks: Iterator[Block], workers: int) -> Iterator[Encoded]:
    """Yield encoded blocks in the order of the input; at most a few blocks per worker are under way."""
    if workers < 2:
        for block in blocks:
            yield encode_block(setting, block)
        return
    global _SETTING  # forked processes inherit the tokenizer instead of loading it again
    _SETTING = setting
    waiting: Deque[Future[Encoded]] = deque()
    with forked_pool(workers) as pool:
        try:
            for block in islice(blocks, 3 * workers):
                waiting.append(pool.submit(_encode_in_child, block))
            while waiting:
                yield waiting.popleft().result()
                for block in islice(blocks, 1):
                    waiting.append(pool.submit(_encode_in_child, block))
        except BrokenProcessPool:
            raise WorkerError("a worker process was ended from outside", "Run with fewer --workers.") from None
        finally:
            for future in waiting:
                future.cancel()
