# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine says is told apart: absent, unreachable, forbidden, broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet.docker import Engine
from ansible.module_utils.ascend_fleet.errors import CommandError, FleetError, UnparsedError
from ansible.module_utils.ascend_fleet.host import Host

from tests.conftest import ScriptedHost

INSPECT = ["docker", "container", "inspect", "x"]
SAID = {
    "daemon": "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    "rights": "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
    "other": "Error response from daemon: something new",
}


@pytest.mark.parametrize(
    "said",
    [
        "Error response from daemon: No such container: x",
        "Error: No such object: x",
        'Error: no container with name or ID "x" found: no such container',
    ],
)
def test_absent_is_none(scripted_host: ScriptedHost, said: str) -> None:
    scripted_host.expect(INSPECT, "[]\n", 1, said)
    assert Engine(scripted_host).container("x") is None


@pytest.mark.parametrize(("case", "remedy"), [("daemon", "systemctl start docker"), ("rights", "ansible_become")])
def test_an_unreachable_daemon_is_not_an_absent_container(scripted_host: ScriptedHost, case: str, remedy: str) -> None:
    scripted_host.expect(INSPECT, "[]\n", 1, SAID[case])
    with pytest.raises(FleetError) as caught:
        Engine(scripted_host).container("x")
    assert remedy in caught.value.remedy


def test_an_unknown_error_is_passed_on(scripted_host: ScriptedHost) -> None:
    scripted_host.expect(INSPECT, "[]\n", 1, SAID["other"])
    with pytest.raises(CommandError, match="something new"):
        Engine(scripted_host).container("x")


def test_an_unknown_answer_is_an_error(scripted_host: ScriptedHost) -> None:
    scripted_host.expect(INSPECT, "Emulate Docker CLI using podman\n")
    with pytest.raises(UnparsedError, match="Emulate Docker"):
        Engine(scripted_host).container("x")


def test_an_absent_tool_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="is not installed") as caught:
        Engine(Host(), str(tmp_path / "no-docker")).container("x")
    assert "ascend_docker_cli" in caught.value.remedy
