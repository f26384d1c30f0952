# SPDX-License-Identifier: GPL-3.0-or-later
"""training_job with state permitted: what a plan would put out of use is said before anything is prepared for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.manifest import Manifest
from ansible.module_utils.ascend_fleet.receipt import Receipt, Store
from ansible.module_utils.ascend_fleet.training_inputs import run_inputs

from tests.conftest import ModuleResult, RunModule, ScriptedHost
from tests.unit.modules.training_site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def ask(run_library: RunModule, scripted_host: ScriptedHost, site: Site) -> Any:
    """Ask on this host; no command may be run for it."""

    def call(check_mode: bool = False, **changes: Any) -> ModuleResult:
        return run_library("training_job", site.params(state="permitted", **changes), scripted_host, check_mode)

    return call


def finish(site: Site, checkpoint: str = "c1") -> str:
    """Leave a finished run of the site's plan, in use; return its name."""
    parents = {"checkpoint": checkpoint, "dataset": "d1"}
    inputs = run_inputs(site.plan(), str(site.root), parents, {"MindSpeed-LLM": "b6"})
    store = Store(Host(), str(site.root), "run")
    receipt = Receipt("run", inputs, Manifest({}))
    store.write(receipt)
    store.make_current(receipt.fingerprint)
    return receipt.fingerprint


def test_a_bare_host_and_the_same_plan_are_permitted(ask: Any, site: Site) -> None:
    first = ask()
    assert (first.failed, first.changed, first["run_state"]) == (False, False, "absent")
    assert list(site.root.iterdir()) == []
    name = finish(site)
    again = ask()
    assert (again.failed, again.changed, again["fingerprint"]) == (False, False, name)


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_changed_plan_is_refused_with_the_difference(ask: Any, site: Site, check_mode: bool) -> None:
    name = finish(site)
    site.options = ["--lr", "9"]
    refused = ask(check_mode=check_mode)
    assert refused.failed
    assert refused["differences"] == ["--lr: 1e-3 -> 9"]
    assert f"Another run ({name}, finished) is in use on npu-a" in refused["msg"]
    assert "pretraining_new_run: true" in refused["remedy"]
    assert "9" in refused["diff"]["after"]["arguments"]
    assert not ask(check_mode=check_mode, new_run=True).failed


def test_other_sources_are_another_run(ask: Any, site: Site) -> None:
    finish(site)
    plan = {**site.plan(), "release": {"name": "2.0.0", "commits": {"MindSpeed-LLM": "c7"}}}
    assert ask(plan=plan)["differences"] == ["source.MindSpeed-LLM: b6 -> c7"]


def test_going_back_to_a_finished_run_is_permitted(ask: Any, site: Site) -> None:
    finish(site)
    site.options = ["--lr", "9"]
    finish(site)
    site.options = ["--lr", "1e-3"]
    assert not ask().failed


def test_what_the_stages_before_leave_is_not_judged_yet(ask: Any, site: Site) -> None:
    """Only the start knows the checkpoint and the dataset; it refuses by itself."""
    finish(site, checkpoint="another")
    assert not ask().failed


def test_a_run_that_goes_on_is_refused_whatever_is_asked(ask: Any, site: Site) -> None:
    name = finish(site)
    folder = site.root / "run" / name
    (folder / "launch-0.json").write_text('{"attempt": 1, "node_rank": 0, "nodes": ["npu-a", "npu-b"]}')
    site.write_status(folder, state="running", iteration=3)
    site.options = ["--lr", "9"]
    refused = ask(new_run=True)
    site.release()
    assert refused.failed
    assert "stop-training.yml" in refused["remedy"]


@pytest.mark.parametrize(("alive", "text"), [(True, "This run goes on npu-a"), (False, "This run (npu-a crashed)")])
def test_another_order_of_the_hosts_is_refused_before_anything_is_prepared(
    ask: Any, site: Site, alive: bool, text: str
) -> None:
    name = finish(site)
    folder = site.root / "run" / name
    inputs = json.loads((folder / "receipt.json").read_text())["inputs"]
    (folder / "receipt.json").unlink()
    launch = {"attempt": 1, "node_rank": 0, "nodes": ["npu-a", "npu-b"], "inputs": inputs}
    (folder / "launch-0.json").write_text(json.dumps(launch))
    site.write_status(folder, alive=alive, state="running", iteration=3)
    site.save(2)
    assert not ask().failed
    site.order = ["npu-b", "npu-a"]
    refused, anew = ask(), ask(new_run=True)
    site.release()
    assert text in refused["msg"]
    assert "in the order npu-a, npu-b" in refused["msg"]
    assert anew.failed is alive


def test_another_order_of_a_finished_run_is_no_matter(ask: Any, site: Site) -> None:
    folder = site.root / "run" / finish(site)
    (folder / "launch-0.json").write_text('{"attempt": 1, "node_rank": 0, "nodes": ["npu-a", "npu-b"]}')
    site.order = ["npu-b", "npu-a"]
    assert not ask().failed
