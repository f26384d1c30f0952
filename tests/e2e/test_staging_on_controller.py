# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller as staging host (`ansible_connection: local`): servers get everything, and no sshd runs on it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from lab import staging
from tests.e2e.conftest import NPU_HOSTS, WORK_ROOT, Playbook, clear, current_receipt, on_host
from tests.runs import Run

pytestmark = pytest.mark.docker


@pytest.fixture
def from_controller(lab: None, playbook: Playbook, tmp_path: Path) -> Playbook:
    """Run a playbook with the controller in place of staging-1, its content being where the lab keeps it."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    inventory = {"all": {"children": {"staging": {"hosts": {"controller": local}}}}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")
    place = {piece.name: piece.directory for piece in staging.pieces()}
    variables = {
        "ascend_staging_host": "controller",
        "ascend_staging_image_archive": str(next((place["image"] / "images").glob("*.tar"))),
        "ascend_staging_git_root": str(place["git"] / "git"),
        "ascend_staging_model": str(place["model"] / "models" / "qwen2-lab"),
        "ascend_staging_dataset": str(place["model"] / "datasets" / "lab-900.jsonl"),
    }

    def run(name: str, tags: str = "", **more: Any) -> Run:
        return playbook(name, tags=tags, cmdline=f"-i {tmp_path / 'hosts.json'}", **variables, **more)

    return run


def assert_nothing_stays(before: set[Path]) -> None:
    """No socket, key or directory of the transfer is left on either side; what others have there meanwhile comes and goes."""
    left = set(Path("/tmp").glob("ascend-fleet-*")) - before
    limit = time.monotonic() + 30
    while any(path.exists() for path in left):
        assert time.monotonic() < limit, left
        time.sleep(0.2)
    for host in NPU_HOSTS:
        assert on_host(host, "ls /tmp | grep ascend-fleet || true") == ""


@pytest.mark.parametrize(("login", "method"), [("root", "rsync"), ("deploy", "tar")])
def test_weights_come_through_ansibles_own_connection(
    finished: str, from_controller: Playbook, login: str, method: str
) -> None:
    before, keys = set(Path("/tmp").glob("ascend-fleet-*")), Path.home() / ".ssh" / "authorized_keys"
    known = keys.read_bytes() if keys.is_file() else b""
    names = {host: current_receipt(host, "weights")["fingerprint"] for host in NPU_HOSTS}
    for host in NPU_HOSTS:
        on_host(host, f"rm -rf {WORK_ROOT}/weights")
    fetched = from_controller("site.yml", tags="weights", ascend_lab_login=login, artifact_transfer_method=method)
    assert fetched.rc == 0, fetched.output[-4000:]
    assert fetched.changed_on_servers() == [(host, "artifact_sync weights") for host in NPU_HOSTS]
    assert [fetched.change(host, "artifact_sync weights").result["method"] for host in NPU_HOSTS] == [method] * 2
    for host in NPU_HOSTS:
        receipt = current_receipt(host, "weights")
        assert (receipt["fingerprint"], receipt["made_with"]["source"]) == (names[host], "controller")
    assert_nothing_stays(before)
    assert (keys.read_bytes() if keys.is_file() else b"") == known
    assert from_controller("site.yml", tags="weights", ascend_lab_login=login).changed_tasks() == []


def test_a_server_that_refuses_the_forwarding_is_named_with_its_remedies(
    finished: str, from_controller: Playbook
) -> None:
    on_host("npu-2", f"rm -rf {WORK_ROOT}/weights")
    refused = from_controller("site.yml", tags="weights", ansible_ssh_args="-o ControlMaster=no -o ControlPath=none")
    assert refused.rc != 0
    assert "cannot forward a socket of" in refused.problem("npu-2")["what"]
    assert "ControlPersist" in refused.output
    assert "ascend_address to controller" in refused.output
    assert from_controller("site.yml", tags="weights").rc == 0


@pytest.mark.long
def test_the_whole_way_with_the_controller_as_staging_host(from_controller: Playbook) -> None:
    clear()
    before = set(Path("/tmp").glob("ascend-fleet-*"))
    run = from_controller("site.yml")
    assert run.rc == 0, run.output[-4000:]
    for stage in ("image", "mirror", "weights"):
        assert current_receipt("npu-2", stage)["made_with"]["source"] == "controller"
    assert from_controller("site.yml").changed_tasks() == []
    assert_nothing_stays(before)
