# SPDX-License-Identifier: GPL-3.0-or-later
"""training_job on several hosts: resumed with data parallelism over hosts, and never in another order of them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.training_bring import parcels

from tests.conftest import ModuleResult, RunModule, ScriptedHost
from tests.unit.modules.test_training_job import start
from tests.unit.modules.training_site import SHARDS, Site, write_archive

MODULE = "training_job"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path).make()
    yield made
    made.release()


@pytest.fixture
def run(run_library: RunModule, scripted_host: ScriptedHost, site: Site) -> Any:
    """Run the module on one host: run("started", check_mode=..., <parameter>=...)."""

    def call(state: str, check_mode: bool = False, **changes: Any) -> ModuleResult:
        return run_library(MODULE, site.params(state=state, **changes), scripted_host, check_mode)

    return call


SHARD = "mp_rank_00"
WEIGHTS = f"{SHARD}/model_optim_rng.pt"


@pytest.fixture(params=[["--use-distributed-optimizer"], []], ids=["distributed optimizer", "plain"])
def twins(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Site, Site]]:
    """Two hosts that load the same shard; the first writes it."""
    placed: dict[str, Any] = {"shards": dict.fromkeys(SHARDS, [SHARD]), "writers": {"npu-a": [SHARD], "npu-b": []}}
    options = ["--lr", "1e-3", *request.param]
    made = [Site(tmp_path / name, name, options=options, **placed).make() for name in SHARDS]
    yield made[0], made[1]
    for site in made:
        site.release()


def together(run_library: RunModule, host: ScriptedHost, *sites: Site, **changes: Any) -> list[ModuleResult]:
    """Let every host start what the looks at all of them ask for; the last ones are those of check mode where nothing was started."""
    looks = []
    for site in sites:
        site.expect_container(host)
        looks.append(run_library("training_job_info", site.params(), host)["look"])
    results = []
    for site in sites:
        site.expect_container(host)
        site.expect_supervisor(host, looks[0]["fingerprint"])
        results.append(run_library(MODULE, site.params(state="started", fleet=looks, **changes), host))
    return results


def bring(a: Site, b: Site, looks: list[dict[str, Any]]) -> Path:
    """Put on b what role artifact_transfer would; returns the file."""
    (parcel,) = parcels(looks, False)["npu-b"]
    assert parcel["patterns"] == [WEIGHTS]
    assert parcel["source"] == str(a.directory / "checkpoints" / "iter_0000010")
    brought = b.root / parcel["stage"] / "f00d" / WEIGHTS
    brought.parent.mkdir(parents=True)
    shutil.copyfile(Path(parcel["source"]) / WEIGHTS, brought)
    (b.root / parcel["stage"] / "current").symlink_to("f00d")
    return brought


def fail(*sites: Site) -> None:
    for site in sites:
        site.write_status(alive=False, state="failed", final=True, iteration=12)


def look_at(run_library: RunModule, host: ScriptedHost, *sites: Site) -> list[dict[str, Any]]:
    found = []
    for site in sites:
        site.expect_container(host)
        found.append(run_library("training_job_info", site.params(), host)["look"])
    return found


def save_whole(site: Site, iteration: int) -> None:
    site.save(iteration)
    write_archive(site.directory / "checkpoints" / f"iter_{iteration:07d}" / SHARD / "distrib_optim.pt")


def test_a_host_that_writes_nothing_resumes_from_what_was_brought(
    run_library: RunModule, scripted_host: ScriptedHost, twins: tuple[Site, Site]
) -> None:
    a, b = twins
    together(run_library, scripted_host, a, b)
    save_whole(a, 10)
    fail(a, b)
    looks = look_at(run_library, scripted_host, a, b)
    start_b = b.params(state="started", fleet=looks)
    b.expect_container(scripted_host)
    predicted = run_library(MODULE, start_b, scripted_host, check_mode=True)
    assert predicted["actions"][1].endswith(f"{SHARD} as npu-a saved them")
    b.expect_container(scripted_host)
    refused = run_library(MODULE, start_b, scripted_host)
    assert f"npu-b lacks {SHARD} of iteration 10, which npu-a saved. Remedy: " in refused["msg"]
    assert b.launch()["attempt"] == 1, "nothing was started"
    brought = bring(a, b, looks)
    b.expect_container(scripted_host)
    b.expect_supervisor(scripted_host, looks[1]["fingerprint"])
    resumed = run_library(MODULE, start_b, scripted_host)
    assert (resumed["decision"], resumed["diff"]) == ("resume", predicted["diff"])
    checkpoints = b.directory / "checkpoints"
    assert (checkpoints / "iter_0000010" / WEIGHTS).samefile(brought), "it takes no room of its own"
    assert (checkpoints / "latest_checkpointed_iteration.txt").read_text() == "10"
    after = (
        look_at(run_library, scripted_host, a)[0],
        run_library("training_job_info", b.params(), scripted_host)["look"],
    )
    assert (after[1]["saved"], after[1]["others"]) == ({"10": []}, {"10": [SHARD]}), "it is not its own"
    assert parcels(list(after), False) == {}, "nothing travels twice"


def test_a_host_vouches_for_its_own_shards_alone(
    run_library: RunModule, scripted_host: ScriptedHost, twins: tuple[Site, Site]
) -> None:
    a, b = twins
    together(run_library, scripted_host, a, b)
    folder = b.directory / "checkpoints" / "iter_0000010"
    write_archive(folder / WEIGHTS)
    (b.directory / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("10")
    save_whole(a, 20)
    for site in (a, b):
        site.write_status(alive=False, state="succeeded", final=True, iteration=20, loss=4.0, started=1.0, ended=2.0)
        site.expect_container(scripted_host)
        assert run_library(MODULE, site.params(state="finished", wait=0), scripted_host).changed
    files = [json.loads((site.directory / "receipt.json").read_text())["outputs"] for site in twins]
    assert f"checkpoints/iter_0000020/{SHARD}/distrib_optim.pt" in files[0]
    assert not [path for path in files[1] if SHARD in path]
    shutil.rmtree(folder)
    again = run_library(MODULE, b.params(state="finished", wait=0), scripted_host)
    assert (again.changed, again["run_state"]) == (False, "finished"), "a copy that is cleared away is no damage"


def test_copies_go_with_the_end_of_the_run(
    run_library: RunModule, scripted_host: ScriptedHost, twins: tuple[Site, Site]
) -> None:
    a, b = twins
    together(run_library, scripted_host, a, b)
    save_whole(a, 10)
    fail(a, b)
    bring(a, b, look_at(run_library, scripted_host, a, b))
    together(run_library, scripted_host, a, b)
    copy = b.directory / "checkpoints" / "iter_0000010" / SHARD
    assert copy.is_dir()
    b.write_status(alive=False, state="succeeded", final=True, iteration=20, loss=4.0, started=1.0, ended=2.0)
    b.expect_container(scripted_host)
    assert run_library(MODULE, b.params(state="finished", wait=0), scripted_host).changed
    assert not copy.exists()
    assert not list((b.root / "resumed").glob("*/*"))
    assert (a.directory / "checkpoints" / "iter_0000010" / SHARD).is_dir()


def test_copies_of_what_will_be_saved_again_go(
    run_library: RunModule, scripted_host: ScriptedHost, twins: tuple[Site, Site]
) -> None:
    """The writer's newer checkpoint is damaged: the run goes on from the older one and comes by the newer one's number again."""
    a, b = twins
    together(run_library, scripted_host, a, b)
    save_whole(a, 10)
    fail(a, b)
    looks = look_at(run_library, scripted_host, a, b)
    bring(a, b, looks)
    later = b.root / "resumed" / looks[0]["fingerprint"] / "iter_0000015" / "npu-a" / "current" / WEIGHTS
    stale = [b.directory / "checkpoints" / f"iter_00000{number}" / WEIGHTS for number in (15, 18)]
    for path in (later, *stale):
        write_archive(path)
    assert [result["decision"] for result in together(run_library, scripted_host, a, b)] == ["resume", "resume"]
    assert [path.exists() for path in stale] == [False, True], "only what is known to be a copy"
    assert [path.name for path in later.parents[4].iterdir()] == ["iter_0000010"], "they take no room either"


def reordered(site: Site) -> Site:
    return dataclasses.replace(site, order=site.order[::-1], locks=[])


def test_another_order_of_the_hosts_neither_joins_nor_restarts_the_run(
    run: Any, run_library: RunModule, site: Site, scripted_host: ScriptedHost
) -> None:
    first = start(run, site, scripted_host)
    site.write_status(state="running", iteration=12)
    moved = reordered(site)
    found = run_library("training_job_info", moved.params(), scripted_host)
    assert (found["run_state"], found["fingerprint"]) == ("running", first["fingerprint"])
    assert (found["look"]["alive"], found["look"]["order"]) == (True, ["npu-a", "npu-b"])
    refused = run_library(MODULE, moved.params(state="started", new_run=True), scripted_host)
    assert "goes on npu-a with the hosts in the order npu-a, npu-b" in refused["msg"]
    site.save(10)
    site.write_status(alive=False, state="failed", final=True, iteration=12)
    moved.expect_container(scripted_host)
    refused = run_library(MODULE, moved.params(state="started"), scripted_host)
    assert "was made with the hosts in the order npu-a, npu-b" in refused["msg"]
    assert "Put training_hosts back in that order" in refused["msg"]
    assert not (site.directory / "launch-1.json").exists()
    moved.expect_container(scripted_host)
    moved.expect_supervisor(scripted_host, first["fingerprint"])
    anew = run_library(MODULE, moved.params(state="started", new_run=True), scripted_host)
    assert (anew["decision"], anew["attempt"]) == ("start", 2)
    assert (site.directory.with_name(site.directory.name + ".attempt-1") / "checkpoints" / "iter_0000010").is_dir()
    moved.release()


def test_the_order_of_the_last_start_counts(
    run: Any, run_library: RunModule, site: Site, scripted_host: ScriptedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that saved nothing leaves its launch file beside that of the next one, which has another rank."""
    first = start(run, site, scripted_host)
    site.write_status(alive=False, state="failed", final=True)
    moved = reordered(site)
    moved.expect_container(scripted_host)
    moved.expect_supervisor(scripted_host, first["fingerprint"])
    assert run_library(MODULE, moved.params(state="started"), scripted_host)["attempt"] == 2
    found = run_library("training_job_info", moved.params(), scripted_host)
    assert (found["run_state"], found["look"]["order"], found["look"]["attempt"]) == ("starting", [], 2)
    assert run_library("training_job_info", site.params(), scripted_host)["look"]["order"] == ["npu-b", "npu-a"]
    moved.write_status(state="running", iteration=5)
    assert run("stopped", check_mode=True)["runs"] == {first["fingerprint"]: "running: iteration 5 of 20"}
    moved.release()


def test_what_is_saved_is_never_trained_over(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    start(run, site, scripted_host)
    site.save(10, SHARDS["npu-a"][:1])
    (site.directory / "launch-0.json").unlink()
    site.release()
    site.expect_container(scripted_host)
    refused = run("started")
    assert "of iteration 10: npu-a lacks mp_rank_01_000" in refused["msg"]
    assert start(run, site, scripted_host, new_run=True)["decision"] == "start"
    assert site.directory.with_name(site.directory.name + ".attempt-0").is_dir()
