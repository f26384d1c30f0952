# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of samples against a plain re-telling of Megatron's loops, and the loss against a real run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import _samples
import build_dataset
import numpy as np
import pytest
import reference_loss
import torch
from _common import WorkerError
from _cross_entropy import Masking, SampleLoss, logged_loss, sample_loss
from _indexed import PairReader, PairWriter
from _samples import SampleOrder, Sampling, training_documents
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.usefixtures("model_imports")


def write_pair(prefix: Path, lengths: list[int]) -> PairReader:
    """Documents whose tokens are numbered through, so that each token tells where it comes from."""
    writer = PairWriter(prefix)
    writer.add(np.arange(sum(lengths), dtype="<i4").tobytes(), np.array(lengths, dtype="<i4").tobytes())
    writer.finish()
    writer.commit()
    return PairReader(prefix)


def retold(lengths: list[int], documents: range, sampling: Sampling) -> list[list[int]]:
    """All samples of a run, by Megatron's own loops: epochs, document index, walk over documents, shuffle index."""
    starts = np.concatenate(([0], np.cumsum(lengths)))
    per_epoch = sum(lengths[number] for number in documents)
    epochs, tokens = 1, per_epoch
    while tokens < sampling.samples * sampling.sequence + 1:
        epochs += 1
        tokens += per_epoch
    without_last = ((epochs - 1) * per_epoch - 1) // sampling.sequence
    from_last = sampling.samples - without_last
    separate = epochs > 1 and from_last < int(0.80 * ((per_epoch - 1) // sampling.sequence))
    random = np.random.RandomState(sampling.seed)

    def order(times: int) -> np.ndarray:
        index = np.array(list(documents) * times, dtype=np.int32)
        random.shuffle(index)
        return index

    index = np.concatenate([order(epochs - 1), order(1)]) if separate else order(epochs)
    count = (epochs * per_epoch - 1) // sampling.sequence
    samples, place, offset = [], 0, 0
    for _ in range(count):
        sample: list[int] = []
        while len(sample) < sampling.sequence + 1:
            document = index[place]
            taken = min(lengths[document] - offset, sampling.sequence + 1 - len(sample))
            first = int(starts[document]) + offset
            sample += range(first, first + taken)
            if len(sample) == sampling.sequence + 1:
                offset += taken - 1
            else:
                place, offset = place + 1, 0
        samples.append(sample)
    border = without_last if separate else count
    shuffled = np.arange(border, dtype=np.uint32)
    random.shuffle(shuffled)
    rest = np.arange(border, count, dtype=np.uint32)
    if len(rest):
        random.shuffle(rest)
    return [samples[number] for number in [*shuffled, *rest]]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=2, max_size=12).filter(lambda lengths: sum(lengths) > 12),
    sequence=st.integers(2, 8),
    wanted=st.integers(1, 40),
    seed=st.integers(0, 5),
    chunk=st.sampled_from([1, 2, 5, 1 << 20]),
)
def test_order_of_samples(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], sequence: int, wanted: int, seed: int, chunk: int
) -> None:
    data = write_pair(tmp_path_factory.mktemp("pair") / "p", lengths)
    sampling = Sampling(sequence, wanted, seed, "100,0,0")
    expected = retold(lengths, range(len(lengths)), sampling)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_samples, "CHUNK", chunk)
        order = SampleOrder(data, sampling)
        assert order.total == len(expected) >= wanted
        assert [tokens.tolist() for tokens in order.batch(0, order.total)] == expected


def test_only_the_training_split_is_read(tmp_path: Path) -> None:
    lengths = [5] * 20
    data = write_pair(tmp_path / "p", lengths)
    sampling = Sampling(4, 6, 1234, "75,20,5")
    found = [tokens.tolist() for tokens in SampleOrder(data, sampling).batch(0, 6)]
    assert found == retold(lengths, range(15), sampling)[:6]
    assert max(map(max, found)) < 75


@pytest.mark.parametrize(
    ("count", "split", "last"),
    [(900, "100,0,0", 900), (900, "949,50,1", 854), (10, "969, 30, 1", 10), (7, "1,1", 4), (3, "0.5,0.5", 2)],
)
def test_training_documents(count: int, split: str, last: int) -> None:
    assert training_documents(count, split) == (0, last)


def test_split_without_training_documents() -> None:
    with pytest.raises(WorkerError, match="leaves nothing"):
        training_documents(5, "0,1,0")


@pytest.fixture(scope="module")
def prefix(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data")
    build_dataset.build(
        golden / "sample_900.jsonl", golden / "tiny_hf", place / "s", ["output"], build_dataset.Options()
    )
    return place / "s_output_document"


def run(golden: Path, prefix: Path, capsys: pytest.CaptureFixture[str], *more: str, code: int = 0) -> dict[str, Any]:
    line = ["--model", str(golden / "tiny_hf"), "--data-prefix", str(prefix), "--seq-length", "128", "--json"]
    line += ["--global-batch-size", "16", "--train-iters", "20", "--seed", "1234", "--split", "100,0,0"]
    assert reference_loss.main([*line, *more]) == code
    answer: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return answer


def test_loss_of_a_real_run(golden: Path, prefix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Upstream, started with tracker 1 on the golden model and data, logged 6.978336 for its first iteration, 2."""
    result = run(golden, prefix, capsys, "--skip-batches", "1")
    assert result["loss"] == pytest.approx(6.97839, abs=5e-6)
    assert result["loss"] == pytest.approx(6.978336, abs=1e-4)
    assert (result["samples"], result["tokens"], result["complete"]) == (16, 2048, True)


def test_part_of_the_first_batch(golden: Path, prefix: Path, model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(golden, prefix, capsys, "--samples", "3")
    assert (result["samples"], result["tokens"], result["complete"]) == (3, 384, False)
    order = SampleOrder(PairReader(prefix), Sampling(128, 320, 1234, "100,0,0"))
    losses = [sample_loss(model, tokens, Masking(997, None), None, "cpu") for tokens in order.batch(0, 3)]
    assert result["loss"] == pytest.approx(logged_loss(losses, 1), abs=1e-5)


def test_batches_beyond_the_run_and_wrong_vocabularies(
    golden: Path, prefix: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "the run has 1333" in run(golden, prefix, capsys, "--skip-batches", "99", code=1)["error"]
    write_pair(tmp_path / "p", [5000])
    assert "the model's vocabulary ends at 1023" in run(golden, tmp_path / "p", capsys, code=1)["error"]
    assert "--train-iters 0" in run(golden, prefix, capsys, "--train-iters", "0", code=1)["error"]


@pytest.fixture(scope="module")
def model(golden: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(str(golden / "tiny_hf"), torch_dtype=torch.float32).eval()


def test_loss_of_a_sample_is_transformers_own(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("_cross_entropy.ROWS", 7)
    tokens = np.random.RandomState(0).randint(0, 1000, 33)
    found = sample_loss(model, tokens, Masking(None, None), None, "cpu")
    text = torch.from_numpy(tokens)[None]
    with torch.no_grad():
        wanted = float(model(input_ids=text, labels=text).loss)
    assert found.count == 32
    assert found.total / found.count == pytest.approx(wanted, abs=1e-5)


def test_padding_and_end_of_document_are_masked_as_megatron_does(model: Any) -> None:
    tokens = np.array([5, 997, 7, 997, 997, 9, 10])
    found = sample_loss(model, tokens, Masking(pad=997, eod=7), None, "cpu")
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[5, 0, 7, 0, 0, 9]])).logits[0]
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 7, 0, 0, 9, 10]), reduction="none")
    assert found.count == 3
    assert found.total == pytest.approx(float(losses[[1, 4, 5]].sum()), abs=1e-5)


def test_a_long_sample_is_computed_in_slices(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many scores at a time as a slice needs, and the loss of the whole."""
    tokens = np.random.RandomState(1).randint(0, 1000, 65)
    whole = sample_loss(model, tokens, Masking(None, None), None, "cpu")
    monkeypatch.setattr("_cross_entropy.ROWS", 10)
    lengths: list[int] = []
    hook = model.base_model.register_forward_pre_hook(
        lambda _, __, named: lengths.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    sliced = sample_loss(model, tokens, Masking(None, None), None, "cpu")
    hook.remove()
    assert lengths == [10] * 6 + [4]
    assert sliced.total / 64 == pytest.approx(whole.total / 64, abs=1e-5)


@pytest.mark.parametrize("rows", [2, 512])
def test_documents_of_a_packed_sample_do_not_see_each_other(
    model: Any, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """As upstream packs them: the end of a document is the last position of it, two in a row are a document of one."""
    monkeypatch.setattr("_cross_entropy.ROWS", rows)
    tokens = np.array([5, 6, 8, 997, 997, 9, 10, 11, 997, 12])
    found = sample_loss(model, tokens, Masking(None, None, ends=997), None, "cpu")
    total = 0.0
    with torch.no_grad():
        for inputs, labels in (([5, 6, 8, 997], [6, 8, 997, 997]), ([997], [9]), ([9, 10, 11, 997], [10, 11, 997, 12])):
            logits = model(input_ids=torch.tensor([inputs])).logits[0]
            total += float(torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="sum"))
    assert found.count == 9
    assert found.total == pytest.approx(total, abs=1e-4)
    assert found.total != pytest.approx(sample_loss(model, tokens, Masking(None, None), None, "cpu").total, abs=1e-3)


def test_the_end_of_a_document_is_the_tokenizers(
    golden: Path, prefix: Path, model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(golden, prefix, capsys, "--samples", "3", "--documents-alone")
    order = SampleOrder(PairReader(prefix), Sampling(128, 320, 1234, "100,0,0"))
    losses = [sample_loss(model, tokens, Masking(997, None, 997), None, "cpu") for tokens in order.batch(0, 3)]
    assert result["loss"] == pytest.approx(logged_loss(losses, 1), abs=1e-5)


def test_no_room_for_the_model_is_no_failure(
    golden: Path, prefix: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("_memory.available_memory", lambda: 1_000_000)
    result = run(golden, prefix, capsys)
    assert (result["loss"], result["complete"], result["device"], result["tokens"]) == (None, False, None, 0)
    assert "on cpu, 1.0 MiB are free" in result["warnings"][0]
    assert "pretraining_check_first_loss" in result["warnings"][1]
    refused = run(golden, prefix, capsys, "--device", "cpu", code=1)
    assert "on cpu, 1.0 MiB are free" in refused["error"]
    for name in ("first_loss_device", "first_loss_samples", "check_first_loss"):
        assert f"pretraining_{name}" in refused["remedy"]


def test_padded_vocabulary_takes_part_in_the_softmax(model: Any) -> None:
    tokens = np.arange(10, 20)
    found = sample_loss(model, tokens, Masking(None, None), 1028, "cpu")
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(tokens[:-1])[None]).logits[0]
    padded = torch.cat([logits, logits[:, -1:].expand(-1, 4)], dim=1)
    wanted = torch.nn.functional.cross_entropy(padded, torch.from_numpy(tokens[1:]), reduction="sum")
    assert found.total == pytest.approx(float(wanted), abs=1e-4)


def test_loss_is_a_mean_of_micro_batch_means() -> None:
    losses = [SampleLoss(10.0, 10), SampleLoss(9.0, 3), SampleLoss(4.0, 2), SampleLoss(0.0, 0)]
    assert logged_loss(losses, 2) == pytest.approx((19 / 13 + 4 / 2) / 2)
    assert logged_loss(losses[:3], 1) == pytest.approx((1 + 3 + 2) / 3)
    assert math.isnan(logged_loss(losses, 1))
