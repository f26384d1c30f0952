# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging in as an ordinary user who may become root does what logging in as root does."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import NPU_HOSTS, WORK_ROOT, Playbook, clear, current_receipt, on_host

pytestmark = pytest.mark.docker

KEYS = "/home/deploy/.ssh/authorized_keys"


def assert_no_grant_is_left() -> None:
    """The lab's own key is the only one with which deploy can log in."""
    for host in ("staging-1", *NPU_HOSTS):
        lines = on_host(host, f"cat {KEYS}").splitlines()
        assert [line.split()[-1] for line in lines] == ["controller"]
        assert on_host(host, f"stat -c '%U %a' {KEYS}").split() == ["deploy", "600"]


def test_what_root_made_is_right_for_an_ordinary_user(finished: str, playbook: Playbook) -> None:
    again = playbook("site.yml", ascend_lab_login="deploy")
    assert again.rc == 0, again.output[-4000:]
    assert again.changed_on_servers() == []


def test_what_is_missing_comes_through_an_ordinary_users_login(finished: str, playbook: Playbook) -> None:
    shard = f"{WORK_ROOT}/checkpoint/current/release/mp_rank_01_001/model_optim_rng.pt"
    before = on_host("npu-2", f"sha256sum {shard}; rm {shard}")
    repaired = playbook("site.yml", tags="conversion", ascend_lab_login="deploy")
    assert repaired.rc == 0, repaired.output[-4000:]
    assert repaired.changed_on_servers() == [("npu-2", "artifact_sync checkpoint")]
    assert on_host("npu-2", f"sha256sum {shard}") == before
    assert_no_grant_is_left()


def test_a_user_whom_sudo_asks_needs_the_password_and_is_told_so(lab: None, playbook: Playbook) -> None:
    refused = playbook("site.yml", tags="driver", ascend_lab_login="clerk")
    assert refused.rc != 0
    assert refused.changed() == {}
    (problem,) = refused.problems
    assert "may not become root without a password" in problem["what"]
    assert "--ask-become-pass" in problem["remedy"]
    allowed = playbook("site.yml", tags="driver", ascend_lab_login="clerk", ansible_become_password="lab")
    assert allowed.rc == 0, allowed.output[-4000:]


@pytest.mark.long
def test_the_whole_way_as_an_ordinary_user(lab: None, playbook: Playbook) -> None:
    clear()
    run = playbook("site.yml", ascend_lab_login="deploy")
    assert run.rc == 0, run.output[-4000:]
    losses = [loss for _, loss in current_receipt("npu-2", "run")["made_with"]["losses"]]
    assert losses[-1] < losses[0] - 0.1
    assert_no_grant_is_left()
    assert playbook("site.yml", ascend_lab_login="deploy").changed_tasks() == []
