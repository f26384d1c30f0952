# SPDX-License-Identifier: GPL-3.0-or-later
"""The trained model back as a Hugging Face model: predicted, exported, proven, left alone the second time, repaired."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import WORK_ROOT, Playbook, current_receipt, on_host

pytestmark = pytest.mark.docker

EXPORT = "playbooks/export-model.yml"
CONTAINER = "docker exec LLM-2025-rc1 bash -c '. /usr/local/Ascend/ascend-toolkit/set_env.sh; exec \"$@\"' run"


def loss_on_the_first_samples() -> float:
    """Return the exported model's loss on the samples that the run saw first."""
    asked = current_receipt("npu-1", "reference")["inputs"]
    line = f"--model {WORK_ROOT}/export/current --data-prefix {WORK_ROOT}/dataset/current/{asked['prefix']} --json"
    line += "".join(
        f" --{option} {asked[key]}"
        for option, key in (
            ("seq-length", "seq_length"),
            ("global-batch-size", "global_batch_size"),
            ("train-iters", "iterations"),
            ("seed", "seed"),
            ("split", "split"),
        )
    )
    told = on_host("npu-1", f"{CONTAINER} python {WORK_ROOT}/workers/reference_loss.py {line}")
    return float(json.loads(told.splitlines()[-1])["loss"])


def test_the_trained_model_comes_back(finished: str, playbook: Playbook) -> None:
    on_host("npu-1", f"rm -rf {WORK_ROOT}/export {WORK_ROOT}/trained")
    predicted = playbook(EXPORT, cmdline="--check --diff")
    assert (predicted.rc, predicted.changed()) == (0, {"npu-1": 2}), predicted.output[-4000:]
    on_host("npu-1", f"test ! -e {WORK_ROOT}/export && test ! -e {WORK_ROOT}/trained")
    real = playbook(EXPORT)
    assert (real.rc, real.changed()) == (0, {"npu-1": 2}), real.output[-4000:]
    receipt = current_receipt("npu-1", "export")
    assert receipt["parents"]["run"] == finished
    assert receipt["inputs"]["iteration"] == current_receipt("npu-1", "run")["made_with"]["iterations"]
    assert len(receipt["inputs"]["shards"]) == 4
    made = receipt["made_with"]
    assert (made["compared"]["equal"], made["compared"]["ranks"]) == (True, 4)
    assert made["loaded"]["architecture"] == "Qwen2ForCausalLM"
    assert loss_on_the_first_samples() < current_receipt("npu-1", "reference")["made_with"]["loss"] - 0.2


def test_the_second_time_nothing_is_done(finished: str, playbook: Playbook) -> None:
    again = playbook(EXPORT)
    assert (again.rc, again.changed()) == (0, {})


def test_a_damaged_model_is_exported_again(finished: str, playbook: Playbook) -> None:
    before = current_receipt("npu-1", "export")["outputs"]
    shard = next(path for path in before if path.endswith(".safetensors"))
    on_host("npu-1", f"truncate -s -1 {WORK_ROOT}/export/current/{shard}")
    repaired = playbook(EXPORT)
    assert (repaired.rc, repaired.changed()) == (0, {"npu-1": 1})
    after = current_receipt("npu-1", "export")["outputs"]
    assert {path: entry["sha256"] for path, entry in after.items()} == {
        path: entry["sha256"] for path, entry in before.items()
    }


def test_an_iteration_on_the_way(finished: str, playbook: Playbook) -> None:
    last = current_receipt("npu-1", "export")["fingerprint"]
    earlier = playbook(EXPORT, model_export_iteration=10)
    assert earlier.rc == 0, earlier.output[-4000:]
    assert current_receipt("npu-1", "export")["inputs"]["iteration"] == 10
    refused = playbook(EXPORT, model_export_iteration=15)
    assert refused.rc != 0
    assert "no whole checkpoint of iteration 15" in refused.output
    assert playbook(EXPORT).rc == 0
    assert current_receipt("npu-1", "export")["fingerprint"] == last
