# SPDX-License-Identifier: GPL-3.0-or-later
"""reference_loss: computed once for the same model, data and samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.host import Container

from tests.conftest import RunModule, ScriptedHost
from tests.unit.modules.training_site import Site

MODULE = "reference_loss"
ANSWER = {"loss": 4.5, "samples": 16, "tokens": 2048, "complete": True}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path).make()


def params(site: Site, **changes: Any) -> dict[str, Any]:
    return {"work_root": str(site.root), "container": "train", "plan": site.plan(), **changes}


def expect_worker(
    host: ScriptedHost, site: Site, *extra: str, rc: int = 0, npus: str = "", micro_batch: int = 2, **answer: Any
) -> None:
    weights = (site.root / "weights" / "current").resolve()
    dataset = (site.root / "dataset" / "current").resolve()
    argv = ["python", f"{site.root}/workers/reference_loss.py", "--model", str(weights)]
    argv += ["--data-prefix", f"{dataset}/lab_text_document", "--seq-length", "128", "--global-batch-size", "16"]
    argv += ["--micro-batch-size", str(micro_batch), "--train-iters", "20", "--seed", "1234", "--split", "100,0,0"]
    argv += ["--padded-vocab-size", "1024", "--device", "auto", *extra, "--json"]
    env = {"ASCEND_RT_VISIBLE_DEVICES": npus} if npus else {}
    host.expect(Container(host, "train").command(argv, env), json.dumps(answer or ANSWER) + "\n", rc=rc)


def test_four_ways(run_library: RunModule, scripted_host: ScriptedHost, site: Site) -> None:
    predicted = run_library(MODULE, params(site), scripted_host, check_mode=True)
    assert predicted.changed
    assert predicted["loss"] is None
    assert not (site.root / "reference").exists()
    expect_worker(scripted_host, site)
    first = run_library(MODULE, params(site), scripted_host)
    assert first.changed
    assert (first["loss"], first["exact"]) == (4.5, True)
    assert first["diff"] == predicted["diff"]
    second = run_library(MODULE, params(site), scripted_host)
    assert not second.changed
    assert (second["loss"], second["exact"]) == (4.5, True)
    assert not run_library(MODULE, params(site), scripted_host, check_mode=True).changed
    assert json.loads((site.root / "reference" / "current" / "reference.json").read_text()) == ANSWER


def test_what_decides_and_what_does_not(run_library: RunModule, scripted_host: ScriptedHost, site: Site) -> None:
    expect_worker(scripted_host, site)
    first = run_library(MODULE, params(site), scripted_host)
    site.options = ["--lr", "9"]
    assert not run_library(MODULE, params(site), scripted_host).changed
    site.options = ["--eod-mask-loss"]
    expect_worker(scripted_host, site, "--eod-mask-loss")
    second = run_library(MODULE, params(site), scripted_host)
    assert second.changed
    assert second["fingerprint"] != first["fingerprint"]
    assert second["diff"]["before"]["inputs"]["eod_mask_loss"] is False


def test_a_part_of_the_batch_is_an_estimate(run_library: RunModule, scripted_host: ScriptedHost, site: Site) -> None:
    expect_worker(scripted_host, site, "--samples", "4", **{**ANSWER, "complete": False})
    result = run_library(MODULE, params(site, samples=4), scripted_host)
    assert result["exact"] is False


def test_no_room_leaves_no_receipt_and_the_next_run_asks_again(
    run_library: RunModule, scripted_host: ScriptedHost, site: Site
) -> None:
    """What is free is a matter of the moment: nothing is remembered of it."""
    why = ["needs about 60.1 GiB on npu:0, 12.0 GiB are free", "not computed"]
    for _ in range(2):
        expect_worker(scripted_host, site, **{**ANSWER, "loss": None, "complete": False, "warnings": why})
        result = run_library(MODULE, params(site), scripted_host)
        assert (result.failed, result.changed, result["loss"], result["exact"]) == (False, False, None, False)
        assert result["remarks"] == ["; ".join(why)]
        assert list((site.root / "reference").iterdir()) == []
    expect_worker(scripted_host, site, **{**ANSWER, "warnings": ["on the CPU"]})
    computed = run_library(MODULE, params(site), scripted_host)
    assert (computed["loss"], computed["exact"], computed["remarks"]) == (4.5, True, ["on the CPU"])


def test_the_worker_sees_the_npus_of_the_run_alone(
    run_library: RunModule, scripted_host: ScriptedHost, site: Site
) -> None:
    expect_worker(scripted_host, site, npus="4,5,6,7")
    assert run_library(MODULE, params(site, visible_devices="4,5,6,7"), scripted_host)["loss"] == 4.5


@pytest.mark.parametrize(
    ("options", "micro_batch", "cp", "why"),
    [
        (["--reset-position-ids", "--use-flash-attn"], 1, 1, ""),
        (["--reset-attention-mask", "--use-flash-attn"], 2, 1, ""),
        (["--reset-position-ids", "--use-flash-attn"], 2, 1, "micro_batch_size"),
        (["--reset-attention-mask"], 1, 1, "without --use-flash-attn"),
        (["--reset-attention-mask", "--use-flash-attn"], 1, 2, "context parallelism"),
    ],
)
def test_packed_samples_are_cut_at_the_ends_of_documents(
    run_library: RunModule,
    scripted_host: ScriptedHost,
    site: Site,
    options: list[str],
    micro_batch: int,
    cp: int,
    why: str,
) -> None:
    site.options = options
    plan = {**site.plan(), "cp": cp}
    plan["train"]["micro_batch_size"] = micro_batch
    expect_worker(scripted_host, site, "--documents-alone", micro_batch=micro_batch)
    result = run_library(MODULE, params(site, plan=plan), scripted_host)
    assert (result["loss"], result["exact"], len(result["remarks"])) == (4.5, not why, 1 if why else 0)
    assert why in "".join(result["remarks"])


def test_the_workers_error_is_passed_on(run_library: RunModule, scripted_host: ScriptedHost, site: Site) -> None:
    expect_worker(scripted_host, site, rc=1, error="the reference loss is nan", remedy="Check the weights.")
    result = run_library(MODULE, params(site), scripted_host)
    assert result.failed
    assert result["msg"] == "the reference loss is nan Remedy: Check the weights."
    assert not (site.root / "reference" / "current").exists()


def test_before_the_other_stages(run_library: RunModule, scripted_host: ScriptedHost, tmp_path: Path) -> None:
    bare = Site(tmp_path / "bare")
    predicted = run_library(MODULE, params(bare), scripted_host, check_mode=True)
    assert predicted.changed
    assert predicted["loss"] is None
    assert "--tags weights" in run_library(MODULE, params(bare), scripted_host)["msg"]
