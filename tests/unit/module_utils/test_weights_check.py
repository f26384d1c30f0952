# SPDX-License-Identifier: GPL-3.0-or-later
"""What a look at weights finds without reading them whole."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.manifest import Manifest, scan
from ansible.module_utils.ascend_fleet.weights_check import (
    file_problem,
    index_problems,
    model_problems,
    read_safetensors_header,
)

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 3945441440\n"


def safetensors(path: Path, tensors: dict[str, int]) -> None:
    """Write a file with float32 vectors of these lengths."""
    header, end = {}, 0
    for name, length in tensors.items():
        header[name] = {"dtype": "F32", "shape": [length], "data_offsets": [end, end + 4 * length]}
        end += 4 * length
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\1" * end)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    safetensors(tmp_path / "model-00001-of-00002.safetensors", {"embed": 10, "norm": 2})
    safetensors(tmp_path / "model-00002-of-00002.safetensors", {"head": 10})
    weight_map = {"embed": 1, "norm": 1, "head": 2}
    index = {
        "metadata": {"total_size": 88},
        "weight_map": {name: f"model-{number:05d}-of-00002.safetensors" for name, number in weight_map.items()},
    }
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


def all_problems(root: Path) -> list[str]:
    host = Host()
    manifest = scan(host, str(root))
    singles = [file_problem(host, str(root / path), entry.size) for path, entry in manifest.files.items()]
    found = [problem for problem in singles if problem]
    return found + index_problems(host, str(root), manifest) + model_problems(manifest, str(root))


def test_a_whole_model_has_no_problem(model: Path) -> None:
    assert all_problems(model) == []
    assert set(read_safetensors_header(str(model / "model-00002-of-00002.safetensors"))) == {
        "__metadata__",
        "head",
        "__end__",
    }


@pytest.mark.parametrize(
    "name", ["model-00001-of-00002.safetensors", "pytorch_model.bin", "image.tar", "tokenizer.json"]
)
def test_a_pointer_is_named_with_its_remedy(model: Path, name: str) -> None:
    (model / name).write_text(POINTER)
    problem = file_problem(Host(), str(model / name), len(POINTER))
    assert problem is not None
    assert str(model / name) in problem
    assert "git-lfs pointer" in problem
    assert "git lfs pull" in problem


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def shard(model: Path) -> Path:
    return model / "model-00001-of-00002.safetensors"


def drop_from_index(model: Path) -> None:
    path = model / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["bias"] = shard(model).name
    path.write_text(json.dumps(index))


def raise_total(model: Path) -> None:
    path = model / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["metadata"]["total_size"] = 1_000_000
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda model: shard(model).write_bytes(b""), "is empty"),
        (lambda model: cut(shard(model), 5), "cut off in its header"),
        (lambda model: cut(shard(model), 60), "cut off in its header"),
        (lambda model: cut(shard(model), shard(model).stat().st_size - 1), "where its header speaks of"),
        (lambda model: shard(model).write_bytes(b"<html>not found</html>"), "is not a safetensors file"),
        (lambda model: shard(model).unlink(), "names shards that are not there (model-00001-of-00002.safetensors)"),
        (drop_from_index, "lacks 1 tensors that model.safetensors.index.json places in it (bias)"),
        (raise_total, "speaks of 1000000 bytes of weights"),
        (lambda model: (model / "model.safetensors.index.json").write_text("{"), "is not an index of shards"),
        (lambda model: (model / "config.json").unlink(), "has no config.json"),
        (lambda model: (model / "tokenizer.json").unlink(), "has no tokenizer"),
    ],
)
def test_damage_is_one_named_problem(model: Path, damage: Callable[[Path], None], expected: str) -> None:
    damage(model)
    problems = [problem for problem in all_problems(model) if expected in problem]
    assert len(problems) == 1
    assert str(model) in problems[0]
    assert ":" in problems[0], "a problem ends with what to do"


def test_pickles_are_accepted_only_when_allowed(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "pytorch_model.bin"):
        (tmp_path / name).write_text("{}")
    manifest = scan(Host(), str(tmp_path))
    assert "run code" in model_problems(manifest, str(tmp_path))[0]
    assert model_problems(manifest, str(tmp_path), allow_pickle=True) == []
    assert "no weights" in model_problems(Manifest({}), str(tmp_path))[-1]


def archive(path: Path) -> None:
    with tarfile.open(path, "w") as stream:
        for name in ("manifest.json", "layer.tar"):
            member = tarfile.TarInfo(name)
            member.size = 3000
            stream.addfile(member, io.BytesIO(b"x" * 3000))


@pytest.mark.parametrize("size", [100, 512, 2000, 3600, 4096])
def test_an_archive_without_its_end_is_found(tmp_path: Path, size: int) -> None:
    path = tmp_path / "image.tar"
    archive(path)
    assert file_problem(Host(), str(path), path.stat().st_size) is None
    cut(path, size)
    problem = file_problem(Host(), str(path), size)
    assert problem is not None
    assert "copy it again" in problem
