# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a conversion: which are written, what a crash leaves, and reading checkpoints that a run saved."""

from __future__ import annotations

import argparse
import enum
import multiprocessing
import os
import signal
import sys
import time
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _mcore
import _to_hf
import _to_mcore
import _torch_file
import _verify_mcore
import pytest
import torch
from _common import WorkerError, forked_pool, output_directory
from _inspect import inspect

from .tiny import make_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "hf")


def names(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def test_only_the_asked_ranks_are_written(model: Path, tmp_path: Path) -> None:
    result = _to_mcore.convert(model, tmp_path / "out", 2, 2, ranks=[(1, 1), (0, 0)])
    wanted = {"release/mp_rank_00_000/model_optim_rng.pt", "release/mp_rank_01_001/model_optim_rng.pt"}
    assert names(tmp_path / "out") == wanted | {"latest_checkpointed_iteration.txt"}
    assert set(result["files"]) == wanted
    for name, one in result["files"].items():
        assert (tmp_path / "out" / name).stat().st_size == one["bytes"]
    assert inspect(tmp_path / "out")["missing"] == ["1_0", "0_1"]


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("ranks", [[(0, 0), (1, 0)], [(0, 0), (0, 1)]])
def test_a_part_is_no_smaller_checkpoint(model: Path, tmp_path: Path, ranks: Any, recorded: bool) -> None:
    """One stage of two, one half of each stage: what is missing is named. Without recorded sizes the names say only that
    there are stages."""
    _to_mcore.convert(model, tmp_path / "out", 2, 2, ranks=ranks)
    if not recorded:
        for path in (tmp_path / "out").rglob("*.pt"):
            torch.save({**torch.load(path, weights_only=False), "args": None}, path)
        if ranks == [(0, 0), (0, 1)]:
            assert inspect(tmp_path / "out")["missing"] == []
            return
    missing = [f"{t}_{p}" for p in (0, 1) for t in (0, 1) if (t, p) not in ranks]
    result = inspect(tmp_path / "out")
    assert (result["tp"], result["pp"], result["missing"]) == (2, 2, missing)
    words = f"of TP 2 x PP 2 the ranks {', '.join(missing)} are missing"
    with pytest.raises(WorkerError, match=words):
        _to_hf.convert(tmp_path / "out", model, tmp_path / "back")
    tp, pp = (max(rank[axis] for rank in ranks) + 1 for axis in (0, 1))
    with pytest.raises(WorkerError, match=words):
        _verify_mcore.verify(model, tmp_path / "out", tp, pp)
    with pytest.raises(WorkerError, match=f"ranks missing: {', '.join(sorted(missing))}"):
        _verify_mcore.verify(model, tmp_path / "out", 2, 2)


def test_workers_write_the_same(model: Path, tmp_path: Path) -> None:
    one = _to_mcore.convert(model, tmp_path / "one", 2, 2, digests=True)
    two = _to_mcore.convert(model, tmp_path / "two", 2, 2, digests=True, workers=2)
    assert one["tensors_digest"] == two["tensors_digest"] == inspect(tmp_path / "two")["tensors_digest"]
    assert names(tmp_path / "one") == names(tmp_path / "two")


def test_the_same_model_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    """So that a shard that is made again is the shard of the receipt."""
    for name in ("one", "two"):
        _to_mcore.convert(model, tmp_path / name, 2, 1)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.pt")]
    assert len(files) == 2
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


@pytest.mark.parametrize("large", [_torch_file.LARGE, 16])
def test_files_are_whole_archives_that_torch_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    """With the headers of small entries and with those of entries that need more than 32 bits."""
    monkeypatch.setattr(_torch_file, "LARGE", large)
    tensors = {"a": torch.arange(12, dtype=torch.bfloat16).view(3, 4), "b": torch.ones(5), "c": torch.zeros(0, 2)}
    state = {"model": {key: _torch_file.Slot(tuple(one.shape), one.dtype) for key, one in tensors.items()}, "n": 1}
    waiting = iter(tensors.values())
    _torch_file.write(tmp_path / "x.pt", state, lambda slot: next(waiting))
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        assert archive.testzip() is None
    for mapped in (False, True):
        loaded = torch.load(tmp_path / "x.pt", mmap=mapped, weights_only=True)
        assert loaded["n"] == 1
        assert all(torch.equal(loaded["model"][key], one) for key, one in tensors.items())
        assert all(loaded["model"][key].dtype == one.dtype for key, one in tensors.items())
    assert loaded["model"]["a"].data_ptr() % _torch_file.ALIGNMENT == 0
    torch.save({"model": tensors, "n": 1}, tmp_path / "torch.pt")
    assert loaded["model"]["a"].stride() == torch.load(tmp_path / "torch.pt")["model"]["a"].stride()


def test_failed_write_leaves_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Path] = []
    write = _to_mcore.write_file

    def failing(path: Path, state: Any, fill: Any) -> None:
        saved.append(path)
        if len(saved) == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(path, state, fill)

    monkeypatch.setattr(_to_mcore, "write_file", failing)
    with pytest.raises(WorkerError, match=f"{tmp_path}/out became full.*No space left"):
        _to_mcore.convert(model, tmp_path / "out", 2, 2)
    assert len(saved) == 3
    assert not (tmp_path / "out").exists()


def killed(work: Callable[..., Any], *arguments: Any) -> None:
    """Run ``work`` in a process that is killed while it works."""
    child = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


def kill(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_run_leaves_no_checkpoint(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies without cleaning up leaves no tracker, so nothing takes the rest for a checkpoint. The next run clears
    it away."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(_to_mcore, "_write_tracker", kill)
        killed(_to_mcore.convert, model, out, 1, 2)
    assert "latest_checkpointed_iteration.txt" not in names(out)
    assert len(names(out)) > 2
    (out / "release" / "left").write_text("over")
    _to_mcore.convert(model, out, 1, 2)
    _to_mcore.convert(model, tmp_path / "wanted", 1, 2)
    assert names(out) == names(tmp_path / "wanted")
    with pytest.raises(WorkerError, match="is not empty"):
        _to_mcore.convert(model, out, 1, 2)


def test_killed_export_is_made_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _to_mcore.convert(model, tmp_path / "mcore", 1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(_to_hf, "_copy_rest", kill)
        killed(_to_hf.convert, tmp_path / "mcore", model, tmp_path / "out")
    assert "config.json" not in names(tmp_path / "out")
    _to_hf.convert(tmp_path / "mcore", model, tmp_path / "out")
    assert names(tmp_path / "out") == names(model)


def test_output_of_a_run_that_goes_on_is_left_alone(model: Path, tmp_path: Path) -> None:
    with output_directory(tmp_path / "out"):
        (tmp_path / "out" / "theirs").write_text("half")
        with pytest.raises(WorkerError, match="being written to by another run"):
            _to_mcore.convert(model, tmp_path / "out", 1, 1)
        with pytest.raises(WorkerError, match="being written to by another run"), output_directory(tmp_path / "out"):
            raise AssertionError
        assert (tmp_path / "out" / "theirs").read_text() == "half"
    assert names(tmp_path / "out") == {"theirs"}


def test_workers_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    """Else they would wait for work for ever."""
    ids = tmp_path / "ids"

    def run() -> None:
        with forked_pool(2) as pool:
            ids.write_text(" ".join(str(pool.submit(os.getpid).result()) for _ in range(2)))
            kill()

    killed(run)
    deadline = time.monotonic() + 20
    while any(_runs(int(pid)) for pid in ids.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(int(pid)) for pid in ids.read_text().split())


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_child_that_dies_is_an_error(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_to_mcore, "write_rank", lambda *_: os._exit(9))
    with pytest.raises(WorkerError, match="ended from outside"):
        _to_mcore.convert(model, tmp_path / "out", 2, 2, workers=2)
    assert not (tmp_path / "out").exists()


def save_like_a_run(out: Path, code: Any) -> None:
    """Put into a converted rank file what a training run adds: an optimizer, an enum of Megatron, an object."""
    path = next(out.rglob("model_optim_rng.pt"))
    state = torch.load(path, weights_only=False)
    state["optimizer"] = {"state": torch.ones(3), "code": code}
    module = types.ModuleType("megatron_for_test")
    module.Kind = enum.Enum("Kind", {"one": 1}, module="megatron_for_test")  # type: ignore[attr-defined]
    sys.modules["megatron_for_test"] = module
    state["args"].model_type = module.Kind.one  # type: ignore[attr-defined]
    torch.save(state, path)
    del sys.modules["megatron_for_test"]


class Intruder:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


def test_pickles_of_a_run_are_read_without_running_them(model: Path, tmp_path: Path) -> None:
    _to_mcore.convert(model, tmp_path / "out", 1, 1)
    before = inspect(tmp_path / "out")
    save_like_a_run(tmp_path / "out", Intruder(tmp_path / "mark"))
    after = inspect(tmp_path / "out")
    assert not (tmp_path / "mark").exists()
    assert after["tensors_digest"] == before["tensors_digest"]
    assert after["files"]["release/mp_rank_00/model_optim_rng.pt"]["args"]["hidden_size"] == 16
    _to_hf.convert(tmp_path / "out", model, tmp_path / "back")
    for path in model.glob("*.safetensors"):
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()


def edit(path: Path, key: str, value: Any) -> None:
    state = torch.load(path, weights_only=False)
    state["model"][key] = value
    torch.save(state, path)


def test_copies_that_differ_are_refused(model: Path, tmp_path: Path) -> None:
    _to_mcore.convert(model, tmp_path / "out", 2, 1)
    edit(
        tmp_path / "out/release/mp_rank_01/model_optim_rng.pt",
        "decoder.final_layernorm.weight",
        torch.zeros(16).bfloat16(),
    )
    with pytest.raises(WorkerError, match=r"model\.norm\.weight: the copies on the ranks 0_0 and 1_0 differ"):
        _to_hf.convert(tmp_path / "out", model, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_tied_output_that_drifted_is_a_warning(tmp_path: Path) -> None:
    model = make_model(tmp_path / "hf", tie_word_embeddings=True)
    _to_mcore.convert(model, tmp_path / "out", 1, 2)
    edit(
        tmp_path / "out/release/mp_rank_00_001/model_optim_rng.pt",
        "output_layer.weight",
        torch.zeros(31, 16).bfloat16(),
    )
    assert (
        "differs from the tied embedding" in _to_hf.convert(tmp_path / "out", model, tmp_path / "back")["warnings"][0]
    )


def test_trained_values_come_back(model: Path, tmp_path: Path) -> None:
    """An iteration saved by a run, found through its tracker."""
    _to_mcore.convert(model, tmp_path / "run", 1, 1, tracker="iteration")
    (tmp_path / "run/iter_0000001").rename(tmp_path / "run/iter_0000020")
    (tmp_path / "run/latest_checkpointed_iteration.txt").write_text("20\n")
    path = tmp_path / "run/iter_0000020/mp_rank_00/model_optim_rng.pt"
    edit(path, "decoder.final_layernorm.weight", torch.full((16,), 2.0).bfloat16())
    result = _to_hf.convert(tmp_path / "run", model, tmp_path / "back")
    assert (result["iteration"], result["tracker"]) == ("iter_0000020", "20")
    again = _to_mcore.convert(tmp_path / "back", tmp_path / "again", 1, 1, digests=True)
    assert again["tensors_digest"] == inspect(tmp_path / "run/iter_0000020")["tensors_digest"]


@pytest.mark.parametrize(
    ("text", "words"), [("", "neither a number"), ("soon", "neither a number"), ("7", "names iter_0000007")]
)
def test_trackers_that_lead_nowhere(model: Path, tmp_path: Path, text: str, words: str) -> None:
    _to_mcore.convert(model, tmp_path / "out", 1, 1)
    (tmp_path / "out/latest_checkpointed_iteration.txt").write_text(text)
    with pytest.raises(WorkerError, match=words):
        inspect(tmp_path / "out")


def test_truncated_rank_file_is_named(model: Path, tmp_path: Path) -> None:
    _to_mcore.convert(model, tmp_path / "out", 1, 1)
    path = tmp_path / "out/release/mp_rank_00/model_optim_rng.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WorkerError, match=r"model_optim_rng\.pt \(\d+ bytes\) cannot be read"):
        _mcore.load_rank(path)


def test_checkpoint_of_another_model(model: Path, tmp_path: Path) -> None:
    _to_mcore.convert(model, tmp_path / "out", 1, 1)
    other = make_model(tmp_path / "other", num_hidden_layers=3)
    with pytest.raises(WorkerError, match="has 4 layers"):
        _to_hf.convert(tmp_path / "out", other, tmp_path / "back")
    wide = make_model(tmp_path / "wide", intermediate_size=26)
    with pytest.raises(WorkerError, match=r"has shape \[48, 16\]"):
        _to_hf.convert(tmp_path / "out", wide, tmp_path / "back")


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize(("vocab", "words"), [(40, r"has 32 rows, .* vocab_size 40"), (30, "has vocab_size 31")])
def test_reference_of_another_vocabulary(model: Path, tmp_path: Path, vocab: int, words: str, recorded: bool) -> None:
    """No row is exported that was never written, none is dropped. What a run saved may record no size: then a smaller
    vocabulary cannot be told from padding."""
    _to_mcore.convert(model, tmp_path / "out", 2, 1)
    if not recorded:
        for path in (tmp_path / "out").rglob("*.pt"):
            state = torch.load(path, weights_only=False)
            state["args"].vocab_size = None
            torch.save(state, path)
    other = make_model(tmp_path / "other", vocab_size=vocab)
    if vocab < 31 and not recorded:
        assert _to_hf.convert(tmp_path / "out", other, tmp_path / "back")["files"]
        return
    with pytest.raises(WorkerError, match=words):
        _to_hf.convert(tmp_path / "out", other, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_smallest_namespace_upstream_needs(model: Path, tmp_path: Path) -> None:
    _to_mcore.convert(model, tmp_path / "out", 2, 2, layers_per_stage=[1, 3])
    args = _mcore.load_rank(tmp_path / "out/release/mp_rank_00_001/model_optim_rng.pt")["args"]
    assert isinstance(args, argparse.Namespace)
    figures = (args.num_layers, args.hidden_size, args.num_attention_heads, args.add_position_embedding)
    assert figures == (4, 16, 4, True)
    assert (args.tensor_model_parallel_size, args.pipeline_model_parallel_size, args.num_layer_list) == (2, 2, "1,3")
    assert args.padded_vocab_size == 32
