# SPDX-License-Identifier: GPL-3.0-or-later
"""The upstream engine with upstream's own scripts, where clones of the three repositories are named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.manifest import Manifest
from ansible.module_utils.ascend_fleet.receipt import Receipt, Store, converge

from benchmarks._upstream import check_out
from tests import upstream_clones
from tests.conftest import ROOT, RunModule
from tests.unit.modules.local_engine import LocalEngine

GOLDEN = ROOT / "tests" / "data" / "golden"

pytestmark = [upstream_clones.needed, upstream_clones.runnable]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    root = tmp_path / "root"
    upstream = check_out(upstream_clones.clones(), root / "source", str(upstream_clones.PYTHON))
    for name, value in upstream.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for stage, files in (
        ("weights", sorted((GOLDEN / "tiny_hf").iterdir())),
        ("corpus", [GOLDEN / "sample_900.jsonl"]),
    ):

        def copy(directory: str, verdict: object, files: list[Path] = files) -> dict[str, str]:
            for path in files:
                (Path(directory) / path.name).write_bytes(path.read_bytes())
            return {}

        converge(Store(Host(), str(root), stage), {"contents": stage}, copy)
    (root / "workers").symlink_to(ROOT / "workers")
    receipt = Receipt("source", {"commits": {"MindSpeed-LLM": "b" * 40}}, Manifest({}))
    (root / "source" / "receipt.json").write_text(json.dumps(receipt.as_dict()))
    engine = LocalEngine(tmp_path / "engine")
    return {"work_root": str(root), "container": engine.name, "docker_cli": engine.cli, "engine": "upstream"}


def test_both_engines_give_the_same_tensors(run_library: RunModule, params: dict[str, object]) -> None:
    given = {**params, "tp": 2, "pp": 2, "model_type_hf": "llama2"}
    result = run_library("mcore_checkpoint", given)
    assert not result.failed, result.data
    assert result["artifact"]["made_with"]["worker"]["verified"]["equal"] is True
    native = run_library("mcore_checkpoint", {**given, "engine": "native"})
    assert not native.failed, native.data
    assert native["directory"] != result["directory"]


def test_a_size_that_does_not_divide_is_a_failure(run_library: RunModule, params: dict[str, object]) -> None:
    """Upstream ends with status 0 here."""
    config = json.loads((GOLDEN / "tiny_hf" / "config.json").read_text())
    tp = 2 * int(config["num_key_value_heads"])
    given = {**params, "tp": tp, "pp": 1, "model_type_hf": "llama2", "stall_seconds": 60}
    result = run_library("mcore_checkpoint", given)
    assert result.failed
    assert not (Path(str(params["work_root"])) / "checkpoint" / "current").exists()


def test_upstreams_dataset_is_read_back(run_library: RunModule, params: dict[str, object]) -> None:
    result = run_library("megatron_dataset", {**params, "name": "s", "json_keys": ["instruction", "output"]})
    assert not result.failed, result.data
    wanted = json.loads((GOLDEN / "dataset.json").read_text())
    for name, figures in wanted.items():
        data = (Path(result["directory"]) / f"s_{name}").read_bytes()
        assert hashlib.sha256(data).hexdigest() == figures["sha256"]
