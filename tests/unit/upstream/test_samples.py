# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of samples: a document walk done token by token gives the same as the index arrays."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def gpt_dataset() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "lab" / "upstream" / "Megatron-LM"))
        from megatron.core.datasets import gpt_dataset

        return gpt_dataset


def walk(lengths: list[int], order: list[int], sequence: int) -> list[tuple[int, int]]:
    """Return where each sample starts, by stepping through the tokens one by one."""
    positions = [(place, offset) for place, document in enumerate(order) for offset in range(lengths[document])]
    return positions[: len(positions) - 1 - (len(positions) - 1) % sequence + 1 : sequence]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(2, 12), st.integers(1, 60), st.integers(0, 2**31)
)
def test_indices_cover_the_requested_samples(
    gpt_dataset: ModuleType, lengths: list[int], sequence: int, wanted: int, seed: int
) -> None:
    if sum(lengths) < sequence + 1:
        return
    config = gpt_dataset.GPTDatasetConfig(seed, sequence, "100,0,0", wanted, "tokenizer")
    documents = np.arange(len(lengths), dtype=np.int32)
    order, samples, shuffle = gpt_dataset.build_indices(np.array(lengths, np.int32), documents, config)
    assert [tuple(row) for row in samples.tolist()] == walk(lengths, order.tolist(), sequence)
    assert len(samples) - 1 >= wanted
    assert sorted(shuffle.tolist()) == list(range(len(samples) - 1))
    epochs = len(order) // len(lengths)
    assert sorted(order.tolist()) == sorted(documents.tolist() * epochs)


def test_last_epoch_used_for_little_is_shuffled_apart(gpt_dataset: ModuleType) -> None:
    """Ten documents of ten tokens, samples of nine and one more: 11 samples an epoch, the 13th needs a second epoch."""
    config = gpt_dataset.GPTDatasetConfig(5, 9, "100,0,0", 13, "tokenizer")
    order, samples, shuffle = gpt_dataset.build_indices(
        np.full(10, 10, np.int32), np.arange(10, dtype=np.int32), config
    )
    assert sorted(order[:10].tolist()) == list(range(10))
    assert len(samples) - 1 == 22
    assert sorted(shuffle[:11].tolist()) == list(range(11))  # the first epoch's samples come before any of the second


def test_known_order_for_seed_1234(gpt_dataset: ModuleType) -> None:
    """The generator and the sequence of its uses are core_r0.8.0's: documents first, samples second."""
    config = gpt_dataset.GPTDatasetConfig(1234, 4, "100,0,0", 2, "tokenizer")
    order, _, shuffle = gpt_dataset.build_indices(np.full(6, 4, np.int32), np.arange(6, dtype=np.int32), config)
    random = np.random.RandomState(1234)
    documents, numbers = np.arange(6), np.arange(5)
    random.shuffle(documents)
    random.shuffle(numbers)
    assert order.tolist() == documents.tolist()
    assert shuffle.tolist() == numbers.tolist()


def test_reading_ranks_need_what_the_building_rank_stored(gpt_dataset: ModuleType, tmp_path: Path) -> None:
    prefix = str(tmp_path / "x_text_document")
    tokens = np.arange(30, dtype=np.int32)
    tokens.tofile(f"{prefix}.bin")
    header = (
        b"MMIDIDX\x00\x00" + (1).to_bytes(8, "little") + b"\x04" + b"".join(n.to_bytes(8, "little") for n in (3, 4))
    )
    arrays = (np.full(3, 10, np.int32), np.array([0, 40, 80], np.int64), np.arange(4, dtype=np.int64))
    Path(f"{prefix}.idx").write_bytes(header + b"".join(array.tobytes() for array in arrays))
    config = gpt_dataset.GPTDatasetConfig(1, 4, "100,0,0", 5, "tokenizer")
    with pytest.raises(FileNotFoundError, match="document_index"):
        gpt_dataset.GPTDataset(prefix, config, build=False)
    built = gpt_dataset.GPTDataset(prefix, config, build=True)
    read = gpt_dataset.GPTDataset(prefix, config, build=False)
    assert [row.tolist() for row in map(built.__getitem__, range(7))] == [
        row.tolist() for row in map(read.__getitem__, range(7))
    ]
    assert read[0].shape == (5,)
    for row in map(read.__getitem__, range(7)):
        inside = np.diff(row)[row[:-1] % 10 != 9]  # tokens of one document stay in order
        assert (inside == 1).all()


def test_missing_files_are_named(gpt_dataset: ModuleType, tmp_path: Path) -> None:
    config = gpt_dataset.GPTDatasetConfig(1, 4, "100,0,0", 5, "tokenizer")
    with pytest.raises(FileNotFoundError, match="cannot be found at the path prefix"):
        gpt_dataset.GPTDataset(str(tmp_path / "nothing"), config, build=True)
