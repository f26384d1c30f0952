# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of training samples: documents shuffled, cut into samples of sequence length + 1, samples shuffled.

Numbers and file layout are those of core_r0.8.0, so the same seed gives the same samples as upstream.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from megatron.core.datasets.indexed_dataset import IndexedDataset

# MindSpeed-LLM puts a module of its own in the place of Megatron's, and its lines bear that name.
logger = logging.getLogger("mindspeed_llm.core.datasets.gpt_dataset")
_PARTS = ("description.txt", "document_index.npy", "sample_index.npy", "shuffle_index.npy")
_SEPARATE_BELOW = 0.80  # a last epoch used for less than this share is shuffled apart


@dataclass(frozen=True)
class GPTDatasetConfig:
    """What decides which samples come in which order."""

    seed: int
    sequence_length: int
    split: str
    num_samples: int
    tokenizer: str
    cache: str | None = None

    def train_share(self) -> tuple[float, float]:
        """Return the begin and end (0 to 1) of the training documents."""
        weights = [float(part) for part in self.split.replace(" ", "").split(",") if part]
        if not weights or weights[0] <= 0:
            raise ValueError(f"--split {self.split} leaves no document for training")
        return 0.0, weights[0] / sum(weights)


class GPTDataset:
    """Training samples of one .bin/.idx dataset: `len(ds)` samples, each sequence_length + 1 token ids."""

    def __init__(self, path_prefix: str, config: GPTDatasetConfig, build: bool) -> None:
        """Open the dataset; build and store the three indices when `build`, else read what another rank stored."""
        self.indexed = IndexedDataset(path_prefix)
        self.config = config
        begin, end = (round(share * len(self.indexed.sequence_lengths)) for share in config.train_share())
        self.documents = np.arange(begin, end, dtype=np.int32)
        description = self._description(path_prefix)
        digest = hashlib.md5(description.encode(), usedforsecurity=False).hexdigest()
        cache = Path(config.cache or Path(path_prefix, "cache", "GPTDataset_indices"))
        files = [cache / f"{digest}-GPTDataset-{part}" for part in _PARTS]
        missing = build and not all(file.is_file() for file in files)
        if missing:
            self._store(files, description)
        else:
            _announce(files[1:])
        self.document_index, self.sample_index, self.shuffle_index = (
            np.load(file, mmap_mode="r") for file in files[1:]
        )
        logger.info("> total number of samples: %d", len(self))
        if missing:
            logger.info("> total number of epochs: %d", len(self.document_index) // len(self.documents))

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.sample_index) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Return sample `index` of the shuffled order, int64 of shape (sequence_length + 1,)."""
        at = int(self.shuffle_index[index])
        (first, offset), (last, end) = self.sample_index[at], self.sample_index[at + 1]
        parts = []
        for place in range(first, last + 1):
            start = int(offset) if place == first else 0
            length = int(end) + 1 - start if place == last else None
            parts.append(self.indexed.get(int(self.document_index[place]), start, length))
        return np.concatenate(parts).astype(np.int64)

    def _description(self, path_prefix: str) -> str:
        facts = {
            "class": "GPTDataset",
            "dataset_path": path_prefix,
            "num_samples": self.config.num_samples,
            "index_split": "train",
            "random_seed": self.config.seed,
            "sequence_length": self.config.sequence_length,
            "split": self.config.split,
            "split_matrix": [self.config.train_share(), None, None],
            "tokenizer": self.config.tokenizer,
        }
        return json.dumps(facts, indent=4)

    def _store(self, files: list[Path], description: str) -> None:
        logger.info("Build and save the GPTDataset train indices")
        files[0].parent.mkdir(parents=True, exist_ok=True)
        indices = build_indices(self.indexed.sequence_lengths, self.documents, self.config)
        for file, index in zip(files[1:], indices):
            np.save(file, index)
        files[0].write_text(description, encoding="utf-8")


def _announce(files: list[Path]) -> None:
    logger.info("Load the GPTDataset train indices")
    for file in files:
        logger.info("\tLoad the %s from %s", file.stem.rsplit("-", 1)[-1].replace("_", " "), file.name)


def build_indices(
    lengths: np.ndarray, documents: np.ndarray, config: GPTDatasetConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the document index (int32), the sample index (int64, n+1 rows of place and offset), the shuffle index."""
    sequence = config.sequence_length
    per_epoch = int(lengths[documents].sum(dtype=np.int64))
    if per_epoch == 0:
        raise ValueError("the dataset holds no token")
    epochs = max(1, -(-(config.num_samples * sequence + 1) // per_epoch))
    before_last = ((epochs - 1) * per_epoch - 1) // sequence
    share = config.num_samples - before_last
    separate = epochs > 1 and share < int(_SEPARATE_BELOW * ((per_epoch - 1) // sequence))
    random = np.random.RandomState(config.seed)
    if separate:
        order = np.concatenate([_shuffled(np.tile(documents, epochs - 1), random), _shuffled(documents, random)])
    else:
        order = _shuffled(np.tile(documents, epochs), random)
    samples = _sample_index(lengths[order], sequence)
    total = len(samples) - 1
    cut = before_last if separate else total
    numbers = np.arange(total, dtype=np.uint32)
    parts = [_shuffled(part, random) for part in (numbers[:cut], numbers[cut:]) if len(part)]
    return order, samples, np.concatenate(parts)


def _shuffled(values: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    copy = values.copy()
    random.shuffle(copy)
    return copy


def _sample_index(lengths: np.ndarray, sequence: int) -> np.ndarray:
    """Return for each sample start (and the end of the last) the place in the document order and the offset there.

    Sample i begins at token i * sequence and ends with the first token of sample i + 1.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    starts = np.arange((int(ends[-1]) - 1) // sequence + 1, dtype=np.int64) * sequence
    places = np.searchsorted(ends, starts, side="right")
    places[0] = 0
    return np.stack([places, starts - (ends - lengths)[places]], axis=1)
