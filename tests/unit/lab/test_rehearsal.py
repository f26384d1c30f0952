# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of a rehearsal: a line holds only if what was found is what should be, and one that does not ends it with status 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab import real_upstream, rehearsal, up
from lab.rehearsal import HOSTS, WORK_ROOT, Finding
from lab.shell import LabError

PINS = {source.name: source.commit for source in real_upstream.sources()}
TENSOR = {"shape": [4, 2], "dtype": "bf16", "sha256": "a" * 64}
REFERENCE = {
    "made_with": {"loss": 4.7},
    "inputs": {
        "prefix": "lab_output_document",
        "seq_length": 128,
        "global_batch_size": 16,
        "micro_batch_size": 2,
        "iterations": 20,
        "seed": 1234,
        "split": "100,0,0",
        "padded_vocab": 1024,
    },
}
STATUS = {
    "state": "succeeded",
    "iterations": 20,
    "loaded_checkpoint": True,
    "losses": [[1, 4.7004], [19, 4.4], [20, 4.5]],
}


class Fleet:
    """Hosts as files and answers in memory; what is not there fails as a command on a host would."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], Any] = {}
        self.digests = {engine: {"x.bin": "1" * 64, "x.idx": "2" * 64} for engine in rehearsal.ENGINES}
        self.tensors = {engine: {"model": dict(TENSOR)} for engine in rehearsal.ENGINES}
        self.own_loss = 4.5002
        self.calls: list[tuple[str, ...]] = []
        for host in HOSTS:
            self.put(host, "source/receipt.json", {"inputs": {"commits": dict(PINS)}})
        for stage in ("checkpoint", "dataset"):
            for engine in rehearsal.ENGINES:
                self.put(HOSTS[0], f"{stage}/{engine}/receipt.json", {"made_with": {"engine": f"{engine}: 1"}})
        self.put(HOSTS[0], "reference/current/receipt.json", REFERENCE)
        self.put(HOSTS[0], "export/current/receipt.json", {"fingerprint": "e1", "inputs": {"iteration": 19}})
        self.put(HOSTS[1], "run/current/status-1.json", dict(STATUS))

    def put(self, host: str, path: str, content: Any) -> None:
        self.files[host, f"{WORK_ROOT}/{path}"] = content

    def on_host(self, host: str, *words: str) -> str:
        if words[0] == "cat":
            return json.dumps(self.files[host, words[1]])
        if words[0] == "find" and "receipt.json" in words:
            found = [path for at, path in self.files if at == host and path.startswith(f"{words[1]}/")]
            return "".join(f"{number}.0 {path}\n" for number, path in enumerate(found))
        engine = words[1].rpartition("/")[2] if words[0] == "find" else words[1].split("/")[-2]
        paths = {f"{WORK_ROOT}/dataset/{engine}/{name}": digest for name, digest in self.digests[engine].items()}
        return "".join(f"{path}\n" if words[0] == "find" else f"{paths[path]}  {path}\n" for path in paths)

    def worker(self, program: str, *words: str) -> dict[str, Any]:
        self.calls.append((program, *words))
        if program == "reference_loss.py":
            return {"loss": self.own_loss}
        return {"files": {"mp_rank_00": {"tensors": self.tensors[words[1].rpartition("/")[2]]}}}


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    made = Fleet()
    monkeypatch.setattr(rehearsal, "on_host", made.on_host)
    monkeypatch.setattr(rehearsal, "worker", made.worker)
    return made


def not_held() -> list[str]:
    """The claims that do not hold, after a proof whose status says so."""
    findings = [
        rehearsal.commits(),
        rehearsal.conversion(),
        rehearsal.dataset(),
        *rehearsal.training(),
        rehearsal.exported(),
    ]
    claims = [finding.claim for finding in findings if not finding.holds]
    assert rehearsal.prove() == (1 if claims else 0)
    return claims


def test_all_holds_when_everything_agrees(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    assert not_held() == []
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(line.startswith("ok ") for line in lines)


def test_a_tree_at_another_commit_does_not_hold(fleet: Fleet) -> None:
    fleet.put(HOSTS[1], "source/receipt.json", {"inputs": {"commits": {**PINS, "MindSpeed": "0" * 40}}})
    assert not_held() == ["sources of release 2.0.0 on 2 hosts"]


@pytest.mark.parametrize("change", [{"sha256": "b" * 64}, {"dtype": "fp16"}, {"shape": [2, 4]}])
def test_a_tensor_that_differs_does_not_hold(fleet: Fleet, change: dict[str, Any]) -> None:
    fleet.tensors["upstream"]["model"] = {**TENSOR, **change}
    assert not_held() == ["native conversion is convert_ckpt.py's, tensor for tensor"]
    assert "1 differ" in rehearsal.conversion().found


def test_a_tensor_that_only_upstream_has_does_not_hold(fleet: Fleet) -> None:
    fleet.tensors["upstream"]["bias"] = dict(TENSOR)
    assert not rehearsal.conversion().holds


def test_a_byte_that_differs_does_not_hold(fleet: Fleet) -> None:
    fleet.digests["upstream"]["x.idx"] = "3" * 64
    assert not_held() == ["native dataset is preprocess_data.py's, byte for byte"]


@pytest.mark.parametrize("first", [4.7011, 4.6989, 6.93])
def test_a_first_loss_that_is_not_the_models_does_not_hold(fleet: Fleet, first: float) -> None:
    fleet.put(HOSTS[1], "run/current/status-1.json", {**STATUS, "losses": [[1, first], *STATUS["losses"][1:]]})  # type: ignore[misc]
    assert "first loss is the Hugging Face model's" in not_held()


@pytest.mark.parametrize(
    "change",
    [{"state": "failed"}, {"losses": [[1, 4.7], [20, 4.8]]}, {"losses": [[1, 4.7], [20, 4.5]], "iterations": 21}],
)
def test_a_run_that_failed_ended_early_or_did_not_learn_does_not_hold(fleet: Fleet, change: dict[str, Any]) -> None:
    fleet.put(HOSTS[1], "run/current/status-1.json", {**STATUS, **change})
    _, ran = rehearsal.training()
    assert not ran.holds


def test_an_exported_model_is_compared_on_the_batch_behind_its_iteration(fleet: Fleet) -> None:
    assert rehearsal.exported().holds
    call = fleet.calls[-1]
    assert call[call.index("--skip-batches") + 1] == "19"
    assert call[call.index("--model") + 1] == f"{WORK_ROOT}/export/e1"
    fleet.own_loss = 4.4  # the loss of another batch
    assert not_held() == ["model exported after iteration 19 has the trainer's loss"]


def test_an_engine_without_result_is_named(fleet: Fleet) -> None:
    del fleet.files[HOSTS[0], f"{WORK_ROOT}/dataset/upstream/receipt.json"]
    with pytest.raises(LabError, match="no dataset of the upstream engine is on npu-1"):
        rehearsal.dataset()


def test_the_table_says_what_does_not_hold() -> None:
    shown = rehearsal.table([Finding("a", "1", True), Finding("longer", "2", False)])
    assert shown == "ok   a       1\nNOT  longer  2"


def test_a_host_that_was_never_up_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "ADDRESSES", tmp_path)
    with pytest.raises(LabError, match="make rehearse"):
        rehearsal.on_host("npu-1", "true")
