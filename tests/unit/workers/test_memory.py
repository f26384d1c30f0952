# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory follows neither the size of the model nor the length of the input. Measured over all processes, as the benchmarks do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks._measure import measure

from .tiny import make_model

MIB = 2**20


def convert(workers: Path, directory: Path, layers: int) -> tuple[int, int]:
    """Return the bytes of the largest rank and the peak of converting a model with this many layers of 6 MiB."""
    sizes = {"hidden_size": 512, "intermediate_size": 1536, "num_attention_heads": 8, "num_key_value_heads": 4}
    model = make_model(directory / "hf", num_hidden_layers=layers, **sizes)
    argv = [sys.executable, str(workers / "convert_checkpoint.py"), "hf2mcore", "--hf", str(model)]
    argv += ["--out", str(directory / "out"), "--tp", "1", "--pp", "2", "--json"]
    ran = measure(argv, env={"OMP_NUM_THREADS": "1"})
    assert ran.status == 0, ran.stdout
    files = json.loads(ran.stdout.splitlines()[-1])["files"]
    return max(one["bytes"] for one in files.values()), ran.peak


def test_conversion(workers: Path, tmp_path: Path) -> None:
    small, low = convert(workers, tmp_path / "small", 2)
    large, high = convert(workers, tmp_path / "large", 40)
    assert large - small > 100 * MIB
    assert high - low < 60 * MIB  # what the rank grew by is not held
    assert high < large + 512 * MIB


def test_preprocessing(workers: Path, golden: Path, tmp_path: Path) -> None:
    sample = (golden / "sample_900.jsonl").read_bytes()
    peaks = []
    for times in (1, 60):
        (tmp_path / "x.jsonl").write_bytes(sample * times)
        argv = [sys.executable, str(workers / "build_dataset.py"), "--input", str(tmp_path / "x.jsonl"), "--tokenizer"]
        argv += [str(golden / "tiny_hf"), "--output-prefix", str(tmp_path / "o"), "--json-keys", "output"]
        ran = measure([*argv, "--workers", "2", "--json"])
        assert ran.status == 0, ran.stdout
        peaks.append(ran.peak)
    assert len(sample) * 59 > 30 * MIB
    assert peaks[1] - peaks[0] < 60 * MIB  # the blocks on their way between the processes, whatever the length
