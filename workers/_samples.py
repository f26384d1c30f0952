# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tokens a Megatron-core r0.8 training run sees, in which order, derived from the .bin/.idx files alone.

Documents of the training split are put in a random order (epoch upon epoch), laid end to end and cut into samples of
``sequence + 1`` tokens that overlap by one; the samples are shuffled again. All randomness comes from the seed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator, List, Tuple

import numpy as np
from _common import WorkerError
from _indexed import PairReader

CHUNK = 1 << 20
LAST_EPOCH_SHARE = 0.80  # a last epoch used less than this is shuffled on its own


@dataclass(frozen=True)
class Sampling:
    """What decides the order of samples. ``samples`` is the number asked for: iterations times global batch size."""

    sequence: int
    samples: int
    seed: int
    split: str


def training_documents(count: int, split: str) -> Tuple[int, int]:
    """First and one past the last document of the training part of ``count`` documents."""
    shares = [float(number) for number in re.findall(r"[.0-9]+", split)][:3]
    if not shares or sum(shares) <= 0 or shares[0] <= 0:
        raise WorkerError(f"--split {split} leaves nothing for training", "Give shares such as 949,50,1.")
    return 0, round(shares[0] / sum(shares) * float(count))


class SampleOrder:
    """The shuffled samples of one training run over ``data``."""

    def __init__(self, data: PairReader, sampling: Sampling) -> None:
        self._data = data
        self._sequence = sampling.sequence
        first, last = training_documents(len(data.lengths), sampling.split)
        per_epoch = int(np.sum(data.lengths[first:last], dtype=np.int64))
        if per_epoch < 2:
            raise WorkerError(f"the training split {sampling.split} has {per_epoch} tokens", "Use a larger dataset.")
        wanted = sampling.samples * sampling.sequence + 1
        self.epochs = max(1, -(-wanted // per_epoch))
        self.total = (self.epochs * per_epoch - 1) // sampling.sequence
        before_last = ((self.epochs - 1) * per_epoch - 1) // sampling.sequence
        in_one_epoch = (per_epoch - 1) // sampling.sequence
        separate = self.epochs > 1 and sampling.samples - before_last < int(LAST_EPOCH_SHARE * in_one_epoch)
        random = np.random.RandomState(sampling.seed)
        self._documents = _document_order(np.arange(first, last, dtype=np.int32), self.epochs, separate, random)
        self._shuffle = _sample_order(before_last if separate else self.total, self.total, random)
        self._starts = self._chunk_starts()

    def _chunk_starts(self) -> np.ndarray:
        """Token position at which each chunk of the document order begins: positions of all would be too many."""
        sizes = [
            int(np.sum(self._data.lengths[self._documents[at : at + CHUNK]], dtype=np.int64))
            for at in range(0, len(self._documents), CHUNK)
        ]
        return np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    def _find(self, position: int) -> Tuple[int, int]:
        """Place in the document order of the token at ``position``, and its offset in that document."""
        chunk = int(np.searchsorted(self._starts, position, side="right")) - 1
        lengths = self._data.lengths[self._documents[chunk * CHUNK : (chunk + 1) * CHUNK]]
        ends = np.cumsum(lengths, dtype=np.int64)
        rest = position - int(self._starts[chunk])
        place = int(np.searchsorted(ends, rest, side="right"))
        return chunk * CHUNK + place, rest - int(ends[place] - lengths[place])

    def tokens(self, number: int) -> np.ndarray:
        """Sample ``number`` of the run: int64 token ids, one more than the sequence length."""
        place, offset = self._find(int(self._shuffle[number]) * self._sequence)
        parts: List[np.ndarray] = []
        missing = self._sequence + 1
        while missing:
            part = self._data.document(int(self._documents[place]))[offset : offset + missing]
            parts.append(part)
            missing -= len(part)
            place, offset = place + 1, 0
        return np.concatenate(parts).astype(np.int64)

    def batch(self, first: int, count: int) -> Iterator[np.ndarray]:
        """Samples ``first`` to ``first + count`` of the run: the sampler hands them out in order, whatever DP is."""
        if first + count > self.total:
            raise WorkerError(
                f"samples {first} to {first + count} are asked for, the run has {self.total}",
                "Ask for an earlier batch, or give the run's own --train-iters and --global-batch-size.",
            )
        for number in range(first, first + count):
            yield self.tokens(number)


def _document_order(documents: np.ndarray, epochs: int, separate: bool, random: np.random.RandomState) -> np.ndarray:
    parts = [np.tile(documents, epochs - 1), documents.copy()] if separate else [np.tile(documents, epochs)]
    for part in parts:
        random.shuffle(part)
    return np.concatenate(parts)


def _sample_order(first: int, total: int, random: np.random.RandomState) -> np.ndarray:
    kind = np.int64 if total >= np.iinfo(np.uint32).max - 1 else np.uint32
    parts = [np.arange(0, first, dtype=kind), np.arange(first, total, dtype=kind)]
    for part in parts[: 1 if first == total else 2]:
        random.shuffle(part)
    return np.concatenate(parts)
