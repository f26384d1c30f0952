# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in trainer, run for real: layouts agree, the first loss is the model's own, and it fails as upstream does."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lab import rehearsal_facts
from tests import real_runs
from tests.unit.upstream.conftest import BATCH, SEQUENCE, USUAL, VOCABULARY, WITHOUT_STATE, Bench, Run, worker

pytestmark = pytest.mark.xdist_group("upstream")  # one process holds the bench, and runs do not crowd each other
# What the pinned upstream sources computed in bf16 on a CPU for the golden model, dataset and seed 1234.
UPSTREAM_LOSSES = {2: 6.978336, 3: 6.964184, 4: 6.898615, 5: 6.806384, 6: 6.723819, 7: 6.597116, 8: 6.602706}
UPSTREAM_NORMS = {2: 1.349, 3: 1.446, 4: 1.578, 5: 1.052, 6: 0.977, 7: 0.973, 8: 0.840}
LAYOUTS = {"tp1-pp1": (1, 1, 1), "tp2-pp2": (2, 2, 4), "tp1-pp2": (1, 2, 2), "tp2-pp1-dp2": (2, 1, 4)}


@pytest.fixture(scope="session")
def reference(bench: Bench) -> Run:
    """The run on one rank that the others are compared with."""
    return bench.train(1, 1, 1, *WITHOUT_STATE)


def first_global_batch(prefix: Path) -> torch.Tensor:
    """Put the first samples together from the index files that the run left and the .bin file: (BATCH, SEQUENCE + 1)."""
    cache = prefix / "cache" / "GPTDataset_indices"
    names = ("document", "sample", "shuffle")
    documents, samples, shuffle = (np.load(next(cache.glob(f"*-GPTDataset-{name}_index.npy"))) for name in names)
    header = 9 + 8 + 1 + 8 + 8
    index = prefix.with_suffix(".idx").read_bytes()
    lengths = np.frombuffer(index, np.int32, int.from_bytes(index[18:26], "little"), header)
    tokens = np.fromfile(prefix.with_suffix(".bin"), np.int32)
    pieces = np.split(tokens, np.cumsum(lengths)[:-1])
    stream = np.concatenate([pieces[number] for number in documents])
    starts = np.cumsum([0, *lengths[documents]])
    rows = []
    for number in shuffle[:BATCH]:
        place, offset = samples[number]
        first = starts[place] + offset
        rows.append(stream[first : first + SEQUENCE + 1])
    return torch.from_numpy(np.stack(rows)).long()


def hugging_face_losses(bench: Bench, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the loss of each label under the model that the checkpoints were made of, in its shape."""
    model = AutoModelForCausalLM.from_pretrained(bench.model, torch_dtype=torch.float32)
    with torch.no_grad():
        logits = model(inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")


def test_first_loss_is_that_of_the_hugging_face_model_on_the_same_samples(bench: Bench, reference: Run) -> None:
    batch = first_global_batch(bench.data)
    expected = hugging_face_losses(bench, batch[:, :-1], batch[:, 1:]).mean().item()
    assert reference.losses[1] == pytest.approx(expected, abs=1e-3)
    assert abs(expected - math.log(VOCABULARY)) > 0.1  # so that random weights could not pass


def test_end_of_document_counts_as_padding_where_the_tokenizer_says_so(bench: Bench, tmp_path: Path) -> None:
    rows = ["--input", bench.root / "rows.jsonl", "--json-keys", "output", "--append-eod"]
    worker("build_dataset", *rows, "--tokenizer", bench.model, "--output-prefix", tmp_path / "eod")
    prefix = tmp_path / "eod_output_document"
    run = bench.train(1, 1, 1, *WITHOUT_STATE, "--train-iters", 1, "--data-path", prefix)
    batch = first_global_batch(prefix)
    end = AutoTokenizer.from_pretrained(bench.model).eos_token_id
    counts = batch[:, 1:] != end
    assert not counts.all()
    batch = batch.masked_fill(batch == end, 0)
    losses = hugging_face_losses(bench, batch[:, :-1], batch[:, 1:]) * counts
    micro_batches = [part.sum() / weight.sum() for part, weight in zip(losses.split(2), counts.split(2))]
    assert run.losses[1] == pytest.approx(torch.stack(micro_batches).mean().item(), abs=1e-3)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "tp1-pp1"])
def test_layouts_give_the_same_curve(bench: Bench, reference: Run, layout: str) -> None:
    run = bench.train(*LAYOUTS[layout], *WITHOUT_STATE)
    assert run.status == 0, run.output
    assert sorted(run.losses) == [1, 2, 3, 4, 5, 6]
    assert run.losses == pytest.approx(reference.losses, abs=1e-3)
    assert run.grad_norms == pytest.approx(reference.grad_norms, rel=1e-2)
    assert run.losses[6] < run.losses[1] - 0.05


def test_log_names_what_was_loaded_and_each_iteration_once(bench: Bench, reference: Run) -> None:
    assert reference.status == 0, reference.output
    assert (
        f"  successfully loaded checkpoint from {bench.checkpoint(1, 1)} [ t 0, p 0 ] at iteration 0"
        in reference.output
    )
    assert reference.output.count(" iteration        1/       6 | consumed samples:            8 |") == 1
    assert "throughput per GPU (TFLOP/s/GPU): " in reference.output
    assert "  tensor_model_parallel_size ...................... 1\n" in reference.output


def test_log_has_only_lines_of_the_real_trainer(bench: Bench, tmp_path: Path) -> None:
    """tests/data/rehearsal: what the unmodified upstream prints, by rank 0's host and the last rank's."""
    run = bench.train(2, 2, 4, *WITHOUT_STATE, "--save", tmp_path / "saved", "--save-interval", 1, "--train-iters", 1)
    output = run.output.replace(str(bench.root), "/data").replace(str(tmp_path), "/data")
    real = {line for host in real_runs.any_of_them()["lines"].values() for line in host}
    found = rehearsal_facts.shapes(output)
    assert rehearsal_facts.unknown(found, real) == []
    for line in real:  # that is what the supervisor reads, and what people look for
        if "checkpoint" in line or " iteration N/" in line or line.startswith("["):
            assert any(line.strip() in one for one in found) or line.startswith("[INFO]")


def test_wrong_load_warns_and_starts_from_random_weights(bench: Bench, tmp_path: Path) -> None:
    run = bench.train(1, 1, 1, *WITHOUT_STATE, "--train-iters", 1, load=tmp_path / "nowhere")
    assert run.status == 0, run.output
    assert (
        f"WARNING: could not find the metadata file {tmp_path}/nowhere/latest_checkpointed_iteration.txt" in run.output
    )
    assert "successfully loaded" not in run.output
    assert run.losses[1] == pytest.approx(math.log(VOCABULARY), abs=0.05)


def test_checkpoint_of_other_sizes_is_not_loaded_and_exits_0(bench: Bench) -> None:
    run = bench.train(1, 1, 1, load=bench.checkpoint(1, 2))
    assert run.status == 0
    assert "could not load the checkpoint" in run.output
    assert run.losses == {}


def test_checkpoint_whose_files_fit_but_whose_arguments_do_not_is_refused(bench: Bench) -> None:
    run = bench.train(1, 1, 1, load=bench.checkpoint(2, 1))
    assert run.status == 1
    assert (
        "tensor_model_parallel_size value from checkpoint (2) is not equal to the input argument value (1)."
        in run.output
    )


def test_one_missing_rank_file_exits_1(bench: Bench, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bench.checkpoint(1, 2), broken)
    shutil.rmtree(broken / "release" / "mp_rank_00_001")
    run = bench.train(1, 2, 2, load=broken)
    assert run.status == 1
    assert "could not load the checkpoint" in run.output


def test_saved_run_goes_on_where_it_stopped(bench: Bench, reference: Run, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    first = bench.train(1, 1, 2, "--save", saved, "--exit-interval", 3)
    assert first.status == 0, first.output
    assert (saved / "latest_checkpointed_iteration.txt").read_text() == "3"
    shards = sorted(file.relative_to(saved).as_posix() for file in saved.rglob("*.pt"))
    assert shards == ["iter_0000003/mp_rank_00/model_optim_rng.pt"]
    second = bench.train(1, 1, 2, "--save", saved, load=saved)
    assert f"successfully loaded checkpoint from {saved} [ t 0, p 0 ] at iteration 3" in second.output
    assert f"successfully saved checkpoint from iteration       6 to {saved}" in second.output
    assert {**first.losses, **second.losses} == pytest.approx(reference.losses, abs=1e-3)


def test_saved_shards_have_the_keys_and_types_that_upstream_saves(bench: Bench, tmp_path: Path) -> None:
    run = bench.train(1, 2, 2, *WITHOUT_STATE, "--train-iters", 1, "--save", tmp_path)
    assert run.status == 0, run.output
    stages = []
    for stage in (0, 1):
        file = tmp_path / "iter_0000001" / f"mp_rank_00_00{stage}" / "model_optim_rng.pt"
        stages.append(torch.load(file, weights_only=False))
    assert sorted(stages[0]) == [
        "args",
        "checkpoint_version",
        "iteration",
        "model",
        "num_floating_point_operations_so_far",
    ]
    loaded = torch.load(next(bench.checkpoint(1, 2).rglob("mp_rank_00_001/*.pt")), weights_only=False)
    expected = {key for key in loaded["model"] if not key.endswith("_extra_state")}
    assert set(stages[1]["model"]) == expected
    assert {weight.dtype for weight in stages[1]["model"].values()} == {torch.bfloat16}


def test_resuming_without_a_stored_optimizer_gives_up(bench: Bench) -> None:
    run = bench.train(1, 1, 1, load=bench.checkpoint(1, 1, "iteration"))
    assert run.status == 0
    assert "Unable to load optimizer from checkpoint" in run.output
    assert run.losses == {}


def test_tracker_with_a_number_skips_the_first_global_batch(bench: Bench, reference: Run) -> None:
    run = bench.train(1, 1, 1, *WITHOUT_STATE, load=bench.checkpoint(1, 1, "iteration"))
    assert sorted(run.losses) == [2, 3, 4, 5, 6]
    assert run.losses[2] == pytest.approx(reference.losses[2], abs=1e-3)  # iteration 1 trains with a rate of 0


def test_index_cache_lies_below_the_prefix_under_upstreams_names(bench: Bench, reference: Run) -> None:
    assert reference.status == 0, reference.output
    names = {file.name.split("-", 1)[1] for file in (bench.data / "cache" / "GPTDataset_indices").iterdir()}
    parts = ("description.txt", "document_index.npy", "sample_index.npy", "shuffle_index.npy")
    assert names == {f"GPTDataset-{part}" for part in parts}


def test_tied_embedding_learns_the_same_from_both_ends_of_a_pipeline(bench: Bench, tmp_path: Path) -> None:
    usual = [item for item in USUAL if item != "--untie-embeddings-and-output-weights"]
    tied = [*usual, *WITHOUT_STATE, "--data-path", bench.data, "--tokenizer-name-or-path", bench.model]
    one, two = tmp_path / "one", tmp_path / "two"
    drawn = bench.launch(1, *tied, "--train-iters", 1, "--save", one)
    assert drawn.status == 0, drawn.output
    (one / "latest_checkpointed_iteration.txt").write_text("release")
    (one / "iter_0000001").rename(one / "release")
    split_in_two_stages(one, two)
    alone = bench.launch(1, *tied, "--load", one)
    piped = bench.launch(2, *tied, "--load", two, "--pipeline-model-parallel-size", 2)
    assert len(alone.losses) == 6, alone.output
    assert piped.losses == pytest.approx(alone.losses, abs=1e-3), piped.output
    assert piped.grad_norms == pytest.approx(alone.grad_norms, rel=1e-2)


def split_in_two_stages(source: Path, target: Path) -> None:
    """Cut a checkpoint of one tied stage in two; the last stage gets a copy of the embedding as its head."""
    state = torch.load(source / "release" / "mp_rank_00" / "model_optim_rng.pt", weights_only=False)
    state["args"].pipeline_model_parallel_size = 2
    stages: list[dict[str, torch.Tensor]] = [{}, {}]
    for key, weight in state["model"].items():
        match = re.fullmatch(r"decoder\.layers\.(\d+)\.(.*)", key)
        if match:
            stage, number = divmod(int(match[1]), 2)
            stages[stage][f"decoder.layers.{number}.{match[2]}"] = weight
        else:
            stages["final_layernorm" in key][key] = weight
    stages[1]["output_layer.weight"] = state["model"]["embedding.word_embeddings.weight"]
    for stage, weights in enumerate(stages):
        file = target / "release" / f"mp_rank_00_00{stage}" / "model_optim_rng.pt"
        file.parent.mkdir(parents=True)
        torch.save({**state, "model": weights}, file)
    (target / "latest_checkpointed_iteration.txt").write_text("release")


def test_curve_is_upstreams_own_on_the_golden_model(bench: Bench, golden: Path, tmp_path: Path) -> None:
    """Rates, losses and norms that the three upstream repositories print at TP2 PP2, iterations 2 to 8 of 20."""
    model = golden / "tiny_hf"
    target = ["--out", tmp_path / "ck", "--tp", 1, "--pp", 1, "--tracker", "iteration"]
    worker("convert_checkpoint", "hf2mcore", "--hf", model, *target)
    rows = ["--input", golden / "sample_900.jsonl", "--json-keys", "output"]
    worker("build_dataset", *rows, "--tokenizer", model, "--output-prefix", tmp_path / "sample")
    sizes = "--hidden-size 128 --ffn-hidden-size 352 --padded-vocab-size 1024 --seq-length 128 --micro-batch-size 1 "
    steps = "--global-batch-size 16 --train-iters 20 --lr 1e-3 --exit-interval 8"
    source = ["--data-path", tmp_path / "sample_output_document", "--tokenizer-name-or-path", model]
    changed = (sizes + steps).split()
    run = bench.launch(1, *USUAL, *WITHOUT_STATE, *changed, *source, "--load", tmp_path / "ck")
    assert run.status == 0, run.output
    assert run.losses == pytest.approx(UPSTREAM_LOSSES, abs=1e-3)
    assert run.grad_norms == pytest.approx(UPSTREAM_NORMS, abs=1e-2)
    rates = dict(re.findall(r"iteration +(\d+)/.*learning rate: (\S+)", run.output))
    assert rates["2"] == "9.960176E-04"
    assert rates["8"] == "7.387742E-04"
