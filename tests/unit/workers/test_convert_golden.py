# SPDX-License-Identifier: GPL-3.0-or-later
"""The converter against the checkpoint that upstream's own converter made of the same model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import _to_hf
import _to_mcore
import pytest
import torch
from _inspect import inspect


@pytest.fixture(scope="module")
def manifest(golden: Path) -> Dict[str, Any]:
    return json.loads((golden / "mcore_tp2pp2.json").read_text())


@pytest.fixture(scope="module")
def converted(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mcore") / "out"
    _to_mcore.convert(golden / "tiny_hf", out, 2, 2, dtype="bf16", tracker="iteration")
    return out


def test_every_tensor_equals_upstreams(manifest: Dict[str, Any], converted: Path) -> None:
    described = inspect(converted)
    assert set(described["files"]) == set(manifest["files"])
    for name, wanted in manifest["files"].items():
        found = described["files"][name]["tensors"]
        for key, tensor in wanted["tensors"].items():
            if tensor is not None:
                assert found[key]["sha256"] == tensor["sha256"], key
                assert found[key]["shape"] == tensor["shape"]
                assert f"torch.{found[key]['dtype']}" == tensor["dtype"]


def test_contents_equal_upstreams(manifest: Dict[str, Any], converted: Path) -> None:
    for name, wanted in manifest["files"].items():
        state = torch.load(converted / name, weights_only=False)
        assert {key: type(state[key]).__name__ for key in ("args", "model")} == {
            "args": "Namespace",
            "model": "OrderedDict",
        }
        assert set(state) == set(wanted["top"])
        assert (state["checkpoint_version"], state["iteration"]) == (3.0, 1)
        assert list(state["model"]) == list(wanted["tensors"])
        assert [key for key, value in state["model"].items() if value is None] == [
            key for key, value in wanted["tensors"].items() if value is None
        ]


def test_arguments_equal_upstreams_except_for_the_true_rotary_base(manifest: Dict[str, Any], converted: Path) -> None:
    args = torch.load(converted / "iter_0000001/mp_rank_01_001/model_optim_rng.pt", weights_only=False)["args"]
    for key, value in manifest["args"].items():
        found = getattr(args, key)
        assert (str(found) if key == "params_dtype" else found) == value, key
    assert args.rotary_base == 1000000.0


def test_tracker_has_no_newline(converted: Path) -> None:
    assert (converted / "latest_checkpointed_iteration.txt").read_bytes() == b"1"


def test_back_to_hugging_face_gives_the_same_files(golden: Path, converted: Path, tmp_path: Path) -> None:
    _to_hf.convert(converted, golden / "tiny_hf", tmp_path / "hf")
    assert {path.name for path in (tmp_path / "hf").iterdir()} == {path.name for path in (golden / "tiny_hf").iterdir()}
    for path in (golden / "tiny_hf").iterdir():
        assert (tmp_path / "hf" / path.name).read_bytes() == path.read_bytes(), path.name


def test_program_prints_its_result_as_the_last_line(golden: Path, workers: Path, tmp_path: Path) -> None:
    arguments = ["hf2mcore", "--hf", str(golden / "tiny_hf"), "--out", str(tmp_path / "out"), "--tp", "2", "--pp", "2"]
    command = [
        sys.executable,
        str(workers / "convert_checkpoint.py"),
        *arguments,
        "--workers",
        "2",
        "--digests",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["tracker"] == (tmp_path / "out/latest_checkpointed_iteration.txt").read_text() == "release"
    assert result["parameters"] == 1001600
    assert sorted(result["files"]) == [
        f"release/mp_rank_{tp:02d}_{pp:03d}/model_optim_rng.pt" for tp in range(2) for pp in range(2)
    ]
    assert result["tensors_digest"] == inspect(tmp_path / "out")["tensors_digest"]
    assert json.loads(done.stderr.splitlines()[-1])["progress"] == 1.0
