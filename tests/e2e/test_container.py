# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan says about the container and what the container is to be have to agree."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import NPU_HOSTS, Playbook

pytestmark = pytest.mark.docker


def test_ids_that_the_container_would_not_know_are_refused(playbook: Playbook) -> None:
    other = {"training_container_privileged": True, "run_plan_physical_ids": False}
    run = playbook("site.yml", tags="container", plan_output="", **other)
    assert run.failed() == set(NPU_HOSTS)
    assert "a container with privileges knows them by physical ones" in run.failures()["npu-1"]
    assert list(run.results("npu_container")) == []
