# SPDX-License-Identifier: GPL-3.0-or-later
"""Origins on this machine: a hub, a git repository, a clone with git-lfs files."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.mirror.fake_hub import Hub


def safetensors(name: str, values: int) -> bytes:
    """Return a whole safetensors file with one tensor."""
    data = bytes(index % 251 for index in range(2 * values))
    header = json.dumps({name: {"dtype": "BF16", "shape": [values], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def model_files() -> dict[str, bytes]:
    """Return a small model in two shards, with a file in another format and one that is empty."""
    shards = {f"model-0000{number}-of-00002.safetensors": safetensors(f"w{number}", 40000) for number in (1, 2)}
    weight_map = {f"w{number}": f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    index = json.dumps({"metadata": {"total_size": 160000}, "weight_map": weight_map}).encode()
    return {
        **shards,
        "model.safetensors.index.json": index,
        "config.json": b'{"model_type": "qwen2"}\n',
        "tokenizer.json": b'{"version": "1.0"}\n',
        "pytorch_model.bin": b"\x80pickle",
        "extra/notes.txt": b"",
    }


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub("Qwen/Qwen-Test", model_files())
    yield made
    made.close()


@pytest.fixture(autouse=True)
def neutral_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No proxy on the way to loopback, and nobody's git configuration."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


def git(*words: str, cwd: Path) -> str:
    """Run git as somebody and return its output."""
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.invalid", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, *words], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository with the branch `2.0.0` that has moved on since the commit that is tagged `pinned`."""
    place = tmp_path / "origin"
    place.mkdir()
    git("init", "--quiet", cwd=place)
    git("checkout", "--quiet", "-b", "2.0.0", cwd=place)
    for number in range(3):
        (place / "requirements.txt").write_text(f"six\nnumpy>=1.{number}\n")
        git("add", ".", cwd=place)
        git("commit", "--quiet", "-m", f"state {number}", cwd=place)
        if number == 1:
            git("tag", "pinned", cwd=place)
    return place


@pytest.fixture
def pinned(origin: Path) -> str:
    return git("rev-parse", "pinned", cwd=origin)
