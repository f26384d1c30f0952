# SPDX-License-Identifier: GPL-3.0-or-later
"""Repair, and only of what is wrong: a finished site is damaged in many places at once, and each run names and mends its part.

Two runs serve all cases. In the first, files are compared as by default; in the second, by content.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import NPU_HOSTS, WORK_ROOT, Playbook, Snapshots, current_receipt, look_everywhere, on_host
from tests.e2e.damage import cut, flip, interrupt, real, remove
from tests.runs import Change, Run

pytestmark = pytest.mark.docker

CONTAINER = "LLM-2025-rc1"
SHARD = "release/mp_rank_00_001/model_optim_rng.pt"
OTHER_SHARD = "release/mp_rank_01_001/model_optim_rng.pt"
WEIGHTS, OTHER_WEIGHTS = "model-00002-of-00004.safetensors", "model-00003-of-00004.safetensors"
BIN, IDX = "lab_output_document.bin", "lab_output_document.idx"
TRACKED = "pretrain_gpt.py"
KEPT = f"{WORK_ROOT}/source/MindSpeed-LLM/ckpt/iter_0000010/model.pt"
ARTIFACTS = ("weights", "checkpoint", "corpus", "dataset", "reference", "run", "image", "mirror")


@dataclass(frozen=True)
class Repair:
    """The site while it was whole, damaged, and after the run that repaired it."""

    whole: Snapshots
    damaged: Snapshots
    run: Run
    after: Snapshots

    def change(self, host: str, what: str) -> Change:
        assert self.run.rc == 0, self.run.output[-4000:]
        return self.run.change(host, what)

    def contents(self, host: str, *stages: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return what the files of these stages held while they were whole, and what they hold now."""
        folders = [f"{WORK_ROOT}/{stage}" for stage in stages]
        return self.whole[host].contents(*folders), self.after[host].contents(*folders)

    def touched(self, host: str, stage: str) -> set[str]:
        """Return the names of a stage's files that the run wrote, made or removed."""
        before, now = (look[host].below(f"{WORK_ROOT}/{stage}") for look in (self.damaged, self.after))
        different = {path for path in {*before, *now} if before.get(path) != now.get(path)}
        return {path.rpartition("/")[2] for path in different} - {".lock", ".progress"}


def repair(playbook: Playbook, damage: Callable[[], None], **settings: str) -> Repair:
    whole = look_everywhere()
    damage()
    damaged = look_everywhere()
    run = playbook("site.yml", cmdline="--diff", **settings)
    return Repair(whole, damaged, run, look_everywhere())


def break_what_a_look_finds() -> None:
    flip("npu-1", f"weights/current/{WEIGHTS}")
    flip("npu-1", f"weights/current/{OTHER_WEIGHTS}", keep_time=True)
    flip("npu-2", f"checkpoint/current/{OTHER_SHARD}", keep_time=True)
    remove("npu-2", f"checkpoint/current/{SHARD}")
    on_host("npu-2", f"docker rm -f {CONTAINER}")
    on_host("npu-1", f"cd {WORK_ROOT}/source/MindSpeed-LLM && echo '# mine' >> {TRACKED}")
    on_host("npu-1", f"mkdir -p $(dirname {KEPT}) && echo precious > {KEPT}")
    cut("npu-1", f"{WORK_ROOT}/dataset/current/{BIN}")
    interrupt("npu-2", "dataset", BIN)


def break_what_is_on_record() -> None:
    on_host("npu-1", f"docker rm -f {CONTAINER} && docker image prune -af")
    cut("npu-1", real("npu-1", "image/current/mindspeed-llm-2025.rc1-lab.tar"))
    remove("npu-1", "checkpoint/current/receipt.json")
    for place in ("container", "source", "weights/current", "checkpoint/current", "dataset/current", "run/current"):
        remove("npu-2", f"{place}/receipt.json")


@pytest.fixture(scope="module")
def first(finished: str, playbook: Playbook) -> Repair:
    return repair(playbook, break_what_a_look_finds)


@pytest.fixture(scope="module")
def second(first: Repair, playbook: Playbook) -> Repair:
    return repair(playbook, break_what_is_on_record, ascend_verify="content")


# The first run


def test_exactly_what_was_wrong_is_repaired(first: Repair) -> None:
    assert first.run.rc == 0, first.run.output[-4000:]
    assert first.run.changed_on_servers() == [
        ("npu-1", "artifact_sync weights"),
        ("npu-1", "megatron_dataset"),
        ("npu-1", "pinned_checkout"),
        ("npu-2", "artifact_sync checkpoint"),
        ("npu-2", "artifact_sync dataset"),
        ("npu-2", "npu_container"),
        ("npu-2", "source_install"),
    ]


def test_a_lost_shard_is_copied_and_not_converted_again(first: Repair) -> None:
    change = first.change("npu-2", "artifact_sync checkpoint")
    assert [line.partition(": ")[2] for line in change.actions] == [f"missing: {SHARD}"]
    assert change.result["files_to_fetch"] == 1
    assert first.touched("npu-2", "checkpoint") == {"model_optim_rng.pt", "receipt.json"}
    assert first.touched("npu-1", "checkpoint") == set(), "the conversion host was not asked to convert"


def test_a_flipped_byte_with_a_new_time_is_found(first: Repair) -> None:
    change = first.change("npu-1", "artifact_sync weights")
    assert [line.partition(": ")[2] for line in change.actions] == [f"changed: {WEIGHTS}"]
    assert first.touched("npu-1", "weights") == {WEIGHTS, "receipt.json"}
    path = real("npu-1", f"weights/current/{WEIGHTS}")
    assert first.after["npu-1"].files[path].content == first.whole["npu-1"].files[path].content


def test_a_flipped_byte_behind_its_old_time_is_not_found_by_default(first: Repair) -> None:
    for host, path in (
        ("npu-1", f"weights/current/{OTHER_WEIGHTS}"),
        ("npu-2", f"checkpoint/current/{OTHER_SHARD}"),
    ):
        path = real(host, path)
        assert first.after[host].files[path] == first.damaged[host].files[path]
        assert first.after[host].files[path].content != first.whole[host].files[path].content


def test_a_removed_container_comes_back_with_the_install_in_it(first: Repair) -> None:
    container, install = first.change("npu-2", "npu_container"), first.change("npu-2", "source_install")
    assert container.result["found"] == "absent"
    assert f"create container {CONTAINER}" in container.actions
    assert install.actions[0] == "install MindSpeed in the container (the container is another one)"
    assert first.after["npu-2"].images == first.whole["npu-2"].images
    assert first.after["npu-1"].containers == first.whole["npu-1"].containers


def test_an_edited_file_is_reset_and_the_edit_kept(first: Repair) -> None:
    change = first.change("npu-1", "pinned_checkout")
    assert change.actions[0] == f"MindSpeed-LLM: save and reset 1 changed files ({TRACKED})"
    (patch,) = change.result["saved"]
    assert f"saved {patch}" in change.actions
    assert "\n+# mine\n" in on_host("npu-1", f"cat {patch}")
    tree = f"{WORK_ROOT}/source/MindSpeed-LLM"
    whole, after = (look["npu-1"].files[f"{tree}/{TRACKED}"].content for look in (first.whole, first.after))
    assert after == whole


def test_what_users_keep_in_the_tree_is_left_alone(first: Repair) -> None:
    assert first.after["npu-1"].files[KEPT] == first.damaged["npu-1"].files[KEPT]


def test_a_cut_off_dataset_is_made_again(first: Repair) -> None:
    change = first.change("npu-1", "megatron_dataset")
    assert change.result["found"] == "damaged"
    assert [line.partition(": ")[2] for line in change.actions] == [f"changed: {BIN}"]


def test_an_interrupted_transfer_goes_on_where_it_was(first: Repair) -> None:
    change = first.change("npu-2", "artifact_sync dataset")
    assert change.result["found"] == "absent"
    name = current_receipt("npu-2", "dataset")["fingerprint"]
    half, now = (f"{WORK_ROOT}/dataset/{folder}/{IDX}" for folder in (f".{name}.partial", name))
    assert first.after["npu-2"].files[now].inode == first.damaged["npu-2"].files[half].inode
    assert not [path for path in first.after["npu-2"].files if ".partial" in path]


def test_both_hosts_have_the_same_dataset_as_before(first: Repair) -> None:
    for host in NPU_HOSTS:
        folder = real(host, "dataset/current")
        for name in (BIN, IDX):
            path = f"{folder}/{name}"
            assert first.after[host].files[path].content == first.whole[host].files[path].content


def test_a_finished_run_is_not_trained_again(first: Repair, second: Repair, finished: str) -> None:
    for made in (first, second):
        for host in NPU_HOSTS:
            assert made.touched(host, "run") <= {"receipt.json"}
            assert current_receipt(host, "run")["fingerprint"] == finished


def test_the_repairs_are_listed_after_the_recap(first: Repair) -> None:
    said = first.run.output.partition("\nCHANGES\n")[2]
    for change in first.run.changes():
        assert any(line.startswith(change.host) for line in said.splitlines())
        for line in change.actions:
            assert f"    {line}\n" in said


# The second run


def test_exactly_what_is_wrong_by_content_and_on_record_is_repaired(second: Repair) -> None:
    assert second.run.rc == 0, second.run.output[-4000:]
    assert second.run.changed_on_servers() == [
        ("npu-1", "artifact_sync image"),
        ("npu-1", "artifact_sync weights"),
        ("npu-1", "container_image"),
        ("npu-1", "mcore_checkpoint"),
        ("npu-1", "npu_container"),
        ("npu-1", "source_install"),
        ("npu-2", "artifact_sync checkpoint"),
        ("npu-2", "artifact_sync dataset"),
        ("npu-2", "artifact_sync weights"),
        ("npu-2", "npu_container"),
        ("npu-2", "source_install"),
        ("npu-2", "training_job follow"),
    ]


def test_a_flipped_byte_behind_its_old_time_is_found_by_content(second: Repair) -> None:
    weights = second.change("npu-1", "artifact_sync weights")
    assert [line.partition(": ")[2] for line in weights.actions] == [f"changed: {OTHER_WEIGHTS}"]
    shard = second.change("npu-2", "artifact_sync checkpoint")
    assert [line.partition(": ")[2] for line in shard.actions] == ["no receipt", f"changed: {OTHER_SHARD}"]
    assert shard.result["files_to_fetch"] == 1


def test_whole_files_whose_receipt_is_gone_do_not_travel(second: Repair) -> None:
    for stage in ("weights", "dataset"):
        change = second.change("npu-2", f"artifact_sync {stage}")
        assert (change.result["found"], change.result["files_to_fetch"]) == ("unsealed", 0)
        assert [line.partition(": ")[2] for line in change.actions] == ["no receipt"]
        assert second.touched("npu-2", stage) == {"receipt.json"}


def test_a_checkpoint_whose_receipt_is_gone_is_converted_again_to_the_same_bytes(second: Repair) -> None:
    change = second.change("npu-1", "mcore_checkpoint")
    assert [line.partition(": ")[2] for line in change.actions] == ["no receipt"]
    whole, after = second.contents("npu-1", "checkpoint")
    assert after == whole


def test_a_run_whose_receipt_is_gone_is_verified_again(second: Repair, finished: str) -> None:
    change = second.change("npu-2", "training_job follow")
    assert change.result["fingerprint"] == finished
    assert change.actions[0].startswith(f"run {finished}: verified, ")
    assert second.touched("npu-2", "run") == {"receipt.json"}


def test_other_lost_receipts_cost_a_look_or_an_install(second: Repair) -> None:
    assert second.change("npu-2", "npu_container").actions == ["look from inside for 2 NPUs"]
    assert second.after["npu-2"].containers == second.damaged["npu-2"].containers
    install = second.change("npu-2", "source_install")
    assert install.actions[0] == "install MindSpeed in the container (no receipt of an earlier one)"


def test_a_truncated_archive_on_a_server_is_fetched_again(second: Repair) -> None:
    archive = second.change("npu-1", "artifact_sync image")
    assert (archive.result["found"], archive.result["files_to_fetch"]) == ("damaged", 1)
    assert archive.actions[0].endswith("changed: mindspeed-llm-2025.rc1-lab.tar")
    assert second.change("npu-1", "container_image").result["found"] == "absent"
    assert second.after["npu-1"].images == second.whole["npu-1"].images


def test_in_the_end_every_artifact_holds_what_it_held_before(first: Repair, second: Repair) -> None:
    for host in NPU_HOSTS:
        folders = [f"{WORK_ROOT}/{stage}" for stage in ARTIFACTS]
        before = first.whole[host].contents(*folders)
        now = second.after[host].contents(*folders)
        assert {path for path in before if "_document/" not in path and now.get(path) != before[path]} == set()


# On the staging host


def test_a_truncated_archive_on_the_staging_host_is_named(finished: str, playbook: Playbook) -> None:
    archive = "/srv/ascend/images/mindspeed-llm-2025.rc1-lab.tar"
    before = look_everywhere()
    on_host("staging-1", f"mv {archive} {archive}.whole && head -c 100000000 {archive}.whole > {archive}")
    try:
        refused = playbook("site.yml", tags="container")
    finally:
        on_host("staging-1", f"mv {archive}.whole {archive}")
    assert refused.rc != 0
    problem = refused.problem("staging-1")
    assert archive in problem["what"]
    assert "Copy it again" in problem["remedy"]
    assert refused.changed_on_servers() == []
    assert look_everywhere() == before
