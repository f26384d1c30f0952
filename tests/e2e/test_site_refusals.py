# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused on the lab's hosts: each trouble made for real, one report that names host, value and remedy, and nothing half-made.

A refusal leaves every host and the controller as they were, to the content, inode and time of every file, the containers and the images.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.hosts import HOSTS
from tests.conftest import ROOT
from tests.e2e.conftest import NPU_HOSTS, Playbook, Run, Snapshots, look_everywhere, on_host
from tests.e2e.snapshot import Snapshot
from tests.runs import patient_ssh

pytestmark = pytest.mark.docker

MODELS = "/srv/ascend/models"
SMALL = "/data/lab-test-small"
DEVICES = " ".join(f"--device /dev/{name}" for name in ("davinci2", "davinci_manager", "devmm_svm", "hisi_hdc"))
# No server of the lab has a Python that old. This one says so, and what answers is Ansible's own check of it.
OLD_PYTHON = """#!/bin/sh
exec /usr/bin/python3 -c '
import sys
sys.version_info, sys.version = (3, 7, 9, "final", 0), "3.7.9 (lookalike)"
exec(compile(sys.stdin.read(), "<stdin>", "exec"))
'
"""

Overlay = Callable[[dict[str, Any]], Path]


@pytest.fixture
def refused(playbook: Playbook) -> Playbook:
    """Run site.yml, which has to fail; the plan's file on the controller is not written."""

    def run(tags: str, **variables: Any) -> Run:
        done = playbook("site.yml", tags=tags, plan_output="", **variables)
        assert done.rc != 0, done.output[-4000:]
        assert done.problems, "every failure is in the report"
        for problem in done.problems:
            assert problem["remedy"], problem["what"]
        return done

    return run


@pytest.fixture(scope="module")
def last_look(finished: str) -> list[Snapshots]:
    """What lay everywhere after the last refusal; one look serves as the end of a test and as the start of the next."""
    return [look_everywhere()]


@pytest.fixture
def unchanged(last_look: list[Snapshots]) -> Iterator[None]:
    """Every host and the controller are after the test what they were before."""
    before = last_look[-1]
    yield
    last_look[:] = [look_everywhere()]
    for name, seen in last_look[-1].items():
        assert kept(seen) == kept(before[name]), name


def kept(seen: Snapshot) -> tuple[Snapshot, dict[str, str]]:
    """Return what a refusal leaves as it is.

    By content alone: the keys, whose file a grant writes twice, and what staging holds, which `lab up` fills again. Locks may be
    taken, Python may keep its bytecode, and the staging host may remember digests and have the program that serves (below /var).
    """
    by_content = ("/root/.ssh", "/srv/ascend")
    files = {
        path: file
        for path, file in seen.files.items()
        if not path.endswith("/.lock") and "/__pycache__" not in path and not path.startswith(("/var/", *by_content))
    }
    return replace(seen, files=files), seen.contents(*by_content)


@pytest.fixture
def overlay(tmp_path: Path) -> Overlay:
    """Write an inventory that lays other connection variables over those of some hosts."""

    def write(hosts: dict[str, Any]) -> Path:
        path = tmp_path / "overlay.json"
        path.write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
        return path

    return write


@contextmanager
def on_both(before: str, after: str) -> Iterator[None]:
    """Run a line on both servers, and the other one when the block ends."""
    try:
        for host in NPU_HOSTS:
            on_host(host, before)
        yield
    finally:
        for host in NPU_HOSTS:
            on_host(host, after)


def test_no_docker_on_both_hosts_is_one_report(unchanged: None, refused: Playbook) -> None:
    with on_both("mv /usr/bin/docker /usr/bin/docker.away", "mv /usr/bin/docker.away /usr/bin/docker"):
        run = refused("container")
    assert run.changed() == {}
    (problem,) = run.problems
    assert sorted(problem["hosts"]) == list(NPU_HOSTS)
    assert problem["what"] == "docker is not installed on this server."
    assert "ascend_docker_cli" in problem["remedy"]


def test_who_cannot_be_reached_or_recognised(
    unchanged: None, refused: Playbook, overlay: Overlay, tmp_path: Path
) -> None:
    address = (ROOT / ".lab" / "address" / "npu-2").read_text(encoding="utf-8").strip()
    for name in ("other", "known_hosts"):
        (tmp_path / name).unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    kind, key = (tmp_path / "other.pub").read_text(encoding="utf-8").split()[:2]
    (tmp_path / "known_hosts").write_text(f"{address} {kind} {key}\n", encoding="utf-8")
    ssh, own_connection = patient_ssh(tmp_path), "-o ControlMaster=no -o ControlPath=none"
    hosts = {
        "npu-1": {"ansible_port": 1, "ansible_ssh_executable": ssh},
        "npu-2": {
            "ansible_ssh_executable": ssh,
            "ansible_ssh_args": f"{own_connection} -o UserKnownHostsFile={tmp_path / 'known_hosts'}",
        },
    }
    run = refused("driver", overlay=overlay(hosts))
    assert run.failed() == set(NPU_HOSTS)
    assert "does not answer on its ssh port" in run.problem("npu-1")["what"]
    assert "port 1: Connection refused" in run.problem("npu-1")["details"]["npu-1"]
    assert "not the one that is known" in run.problem("npu-2")["what"]
    assert address in run.problem("npu-2")["details"]["npu-2"]
    assert "ssh-keygen -R" in run.problem("npu-2")["remedy"]


def test_an_old_python_names_the_environment_that_manages_it(
    unchanged: None, refused: Playbook, overlay: Overlay
) -> None:
    place = "/opt/lab-test-python"
    write = f"mkdir -p {place} && cat > {place}/python3 <<'END'\n{OLD_PYTHON}END\nchmod 755 {place}/python3"
    with on_both(write, f"rm -rf {place}"):
        hosts = dict.fromkeys(NPU_HOSTS, {"ansible_python_interpreter": f"{place}/python3"})
        run = refused("driver", overlay=overlay(hosts))
    (problem,) = run.problems
    assert sorted(problem["hosts"]) == list(NPU_HOSTS)
    assert f"Python 3.7.9 ({place}/python3) is too old" in problem["what"]
    assert "make venv ANSIBLE=2.17" in problem["remedy"]


def test_a_login_that_may_not_become_root(unchanged: None, refused: Playbook, overlay: Overlay) -> None:
    user = "lab-test-plain"
    home = f"/home/{user}"
    try:
        on_host(
            "npu-2",
            f"useradd --create-home --password '*' {user} && cp -r /root/.ssh {home}/ && chown -R {user} {home}",
        )
        become = {"ansible_become": True, "ansible_become_method": "sudo", "ansible_user": user}
        hosts = {"npu-2": {**become, "ansible_ssh_args": "-o ControlMaster=no -o ControlPath=none"}}
        run = refused("driver", overlay=overlay(hosts))
    finally:
        on_host("npu-2", f"userdel --remove {user} 2>/dev/null; ! id {user} 2>/dev/null")
    problem = run.problem("npu-2")
    assert "may not become root without a password" in problem["what"]
    assert "sudo password" in problem["details"]["npu-2"]
    assert "--ask-become-pass" in problem["remedy"]


def test_a_busy_npu_names_who_holds_it(unchanged: None, refused: Playbook) -> None:
    hold = "bash -c 'exec 3<>/dev/davinci2; exec sleep 300'"
    try:
        on_host("npu-2", f"docker run -d --rm --name lab-test-busy {DEVICES} mindspeed-llm:2025.rc1-lab {hold}")
        on_host(
            "npu-2", "for _ in $(seq 50); do npu-smi info | grep -q 'found in NPU 2' || exit 0; sleep 0.1; done; exit 1"
        )
        run = refused("driver")
    finally:
        on_host("npu-2", "docker rm -f lab-test-busy")
    assert run.failed() == set(NPU_HOSTS), "the run does not go on without it"
    problem = run.problem("npu-2")
    assert "NPU 2 is held by pid" in problem["what"]
    assert "container lab-test-busy" in problem["what"]
    assert "ascend_npus" in problem["remedy"]


def test_staging_is_gone(unchanged: None, refused: Playbook) -> None:
    staging = next(host.container for host in HOSTS if host.name == "staging-1")
    try:
        subprocess.run(["docker", "stop", "--time", "1", staging], check=True, capture_output=True)
        run = refused("weights", ansible_timeout=5)
    finally:
        subprocess.run([sys.executable, "-m", "lab", "up"], cwd=ROOT, check=True)
    assert run.changed() == {}
    (problem,) = run.problems
    assert problem["hosts"] == ["staging-1"]
    assert "does not answer on its ssh port" in problem["what"]


def test_pointers_in_place_of_shards_are_all_named_before_anything_travels(unchanged: None, refused: Playbook) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\\noid sha256:%064d\\nsize 123456\\n"
    model = f"{MODELS}/lab-test-pointers"
    shards = ("model-00001-of-00004.safetensors", "model-00003-of-00004.safetensors")
    try:
        on_host("staging-1", f"cp -r {MODELS}/qwen2-lab {model}")
        for shard in shards:
            on_host("staging-1", f"printf '{pointer}' 0 > {model}/{shard}")
        run = refused("weights", ascend_staging_model=model)
    finally:
        on_host("staging-1", f"rm -rf {model}")
    (problem,) = run.problems
    assert problem["hosts"] == ["staging-1"]
    for shard, part in zip(shards, problem["parts"], strict=True):
        assert f"{model}/{shard} is a git-lfs pointer of 131 bytes" in part
        assert "git lfs pull" in part


def test_a_missing_json_key_names_the_line_and_the_keys_there_are(unchanged: None, refused: Playbook) -> None:
    asked = {"dataset": {"keys": ["answer"], "train_key": "answer"}}
    run = refused("preprocessing", run_plan_overrides=asked)
    problem = run.problem("npu-1")
    assert "lab-900.jsonl, line 1 has no key answer (it has: instruction, output)" in problem["what"]
    assert problem["remedy"]


def test_a_full_disk_is_refused_on_both_hosts_before_the_first_byte(unchanged: None, refused: Playbook) -> None:
    mount = f"mkdir -p {SMALL} && mount -t tmpfs -o size=3m tmpfs {SMALL}"
    with on_both(mount, f"umount {SMALL} && rmdir {SMALL}"):
        run = refused("weights", ascend_work_root=SMALL)
        left = [on_host(host, f"find {SMALL} -mindepth 1 -maxdepth 1 -printf '%f '").split() for host in NPU_HOSTS]
    assert {host for problem in run.problems for host in problem["hosts"]} == set(NPU_HOSTS)
    for problem in run.problems:
        assert f"{SMALL}/weights has" in problem["what"]
        assert "ascend_work_root" in problem["remedy"]
    assert left == [["workers"], ["workers"]], "only the worker programs, which come first, are there"


def test_a_checkpoint_of_another_layout_is_not_trained_from(unchanged: None, refused: Playbook) -> None:
    """The page names TP and PP twice, for the conversion and for the training, and nothing compares them."""
    run = refused("training", training_tp=1, training_pp=4, pretraining_new_run=True)
    assert run.failed() == set(NPU_HOSTS)
    assert {host for problem in run.problems for host in problem["hosts"]} == set(NPU_HOSTS)
    for problem in run.problems:
        assert "was converted for TP 2 PP 2, and the plan asks for TP 1 PP 4 (--tags conversion)" in problem["what"]
