# SPDX-License-Identifier: GPL-3.0-or-later
"""The container modules against a real engine, with the lab's training image and device nodes below a temporary directory."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import images
from tests.conftest import ModuleResult, RunModule

ENV_SCRIPTS = ["/usr/local/Ascend/ascend-toolkit/set_env.sh", "/usr/local/Ascend/nnal/atb/set_env.sh"]
NULL_DEVICE = os.makedev(1, 3)  # a number that the default device cgroup allows
PREFIX = "fleet-test"


def docker(*arguments: str, check: bool = True) -> str:
    return subprocess.run(["docker", *arguments], check=check, capture_output=True, text=True).stdout.strip()


def has_engine() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not has_engine(), reason="no container engine answers on this machine"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes"),
]


@dataclass
class Server:
    """This machine as a server with four cards."""

    root: Path
    name: str
    image: str
    run_library: RunModule

    def run(self, check_mode: bool = False, **more: Any) -> ModuleResult:
        mounts = [
            {"source": str(self.root / "work"), "type": "directory", "create": True},
            {"source": sysconfig.get_path("purelib"), "target": "/opt/lab/site-packages", "read_only": True},
            *more.pop("mounts", []),
        ]
        params = {
            "name": self.name,
            "image": self.image,
            "npus": [2, 3],
            "work_root": str(self.root / "work"),
            "device_directory": str(self.root / "dev"),
            "npu_smi": [],
            "mounts": mounts,
            "network": "none",
            "env_scripts": ENV_SCRIPTS,
            **more,
        }
        return self.run_library("npu_container", params, check_mode=check_mode)

    def inspect(self, template: str) -> str:
        return docker("container", "inspect", "--format", template, self.name)


@pytest.fixture
def server(tmp_path: Path, run_library: RunModule) -> Iterator[Server]:
    image = images.tag("training")
    if not images.exists(image):
        pytest.skip("the lab's training image has not been built on this machine")
    (tmp_path / "dev").mkdir()
    for name in ("davinci0", "davinci2", "davinci3", "davinci_manager", "devmm_svm", "hisi_hdc"):
        os.mknod(tmp_path / "dev" / name, 0o020666, NULL_DEVICE)
    name = f"{PREFIX}-{os.getpid()}"
    yield Server(tmp_path, name, image, run_library)
    for left in (name, f"{name}.replaced"):
        docker("rm", "--force", left, check=False)


def test_a_container_is_made_kept_and_made_anew(server: Server) -> None:
    first = server.run()
    assert not first.failed, first["msg"]
    assert first["probe"]["npus"] == 2
    nodes = docker("exec", server.name, "sh", "-c", "ls /dev/davinci*").split()
    assert nodes == ["/dev/davinci2", "/dev/davinci3", "/dev/davinci_manager"]
    assert server.inspect("{{.HostConfig.Privileged}} {{.HostConfig.Init}}") == "false true"

    second = server.run()
    assert not second.changed
    assert second["container"] == first["container"]

    predicted = server.run(check_mode=True, npus=[3])
    assert predicted.changed
    assert server.inspect("{{.Id}}") == first["container"]["id"]

    third = server.run(npus=[3])
    assert third["probe"]["npus"] == 1
    assert third["container"]["id"] != first["container"]["id"]
    assert docker("ps", "--all", "--quiet", "--filter", f"name={server.name}.replaced") == ""


def test_a_stopped_container_is_started(server: Server) -> None:
    first = server.run()
    docker("stop", "--time", "1", server.name)
    again = server.run()
    assert again["found"] == "stopped"
    assert again["container"]["id"] == first["container"]["id"]
    assert again["probe"]["npus"] == 2


def test_a_running_job_keeps_its_container(server: Server) -> None:
    first = server.run()
    docker("exec", "--detach", server.name, "bash", "-c", "sleep 300; true", "supervise_training.py")
    refused = server.run(environment={"NEW": "1"})
    assert refused.failed
    assert "supervise_training.py" in refused["msg"]
    assert server.inspect("{{.Id}} {{.State.Status}}") == f"{first['container']['id']} running"
    docker("exec", server.name, "pkill", "-f", "supervise_training.py")
    assert server.run(environment={"NEW": "1"}).changed


def test_what_cannot_start_gives_way_to_what_ran(server: Server) -> None:
    first = server.run()
    failed = server.run(command=["/no/such/program"])
    assert failed.failed
    assert "/no/such/program" in failed["msg"]
    assert server.inspect("{{.Id}} {{.State.Status}}") == f"{first['container']['id']} running"
    assert len(docker("ps", "--all", "--quiet", "--filter", f"name={server.name}").split()) == 1
    assert server.run(check_mode=True)["found"] == "ok"


def test_an_absent_mount_source_is_not_made(server: Server) -> None:
    source = server.root / "ascend_install.info"
    result = server.run(mounts=[{"source": str(source), "type": "file"}])
    assert result.failed
    assert str(source) in result["msg"]
    assert not source.exists()
    assert docker("ps", "--all", "--quiet", "--filter", f"name={server.name}") == ""


def test_ended_processes_are_reaped(server: Server) -> None:
    server.run()
    docker("exec", server.name, "bash", "-c", "(sleep 0.2 &) ; exit 0")
    deadline = time.monotonic() + 20
    while "sleep 0.2" in docker("top", server.name, "-eo", "pid,stat,args") and time.monotonic() < deadline:
        time.sleep(0.1)
    states = [line.split()[1] for line in docker("top", server.name, "-eo", "pid,stat,args").splitlines()[1:]]
    assert states
    assert not any(state.startswith("Z") for state in states)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[tuple[str, Path, str]]:
    """A tiny image in an archive and no longer in the engine: its name, the archive, its id."""
    name = f"{PREFIX}/tiny:{os.getpid()}"
    (tmp_path / "file").write_text("content\n")
    with tarfile.open(tmp_path / "root.tar", "w") as root:
        root.add(tmp_path / "file", "file")
    identity = docker("import", str(tmp_path / "root.tar"), name)
    docker("save", "--output", str(tmp_path / "tiny.tar"), name)
    docker("image", "rm", name)
    yield name, tmp_path / "tiny.tar", identity
    docker("image", "rm", "--force", name, check=False)


def test_an_image_is_loaded_once_from_its_archive(tiny: tuple[str, Path, str], run_library: RunModule) -> None:
    name, archive, identity = tiny
    params = {"reference": name, "archive": str(archive)}
    assert run_library("image_archive_info", params)["ids"] == [identity]
    assert run_library("container_image", params, check_mode=True).changed
    assert docker("images", "--quiet", name) == ""
    first = run_library("container_image", params)
    assert not first.failed, first["msg"]
    assert first["image"]["id"] == identity
    archive.unlink()
    assert not run_library("container_image", {**params, "ids": [identity]}).changed


def test_a_cut_off_archive_leaves_the_engine_alone(tiny: tuple[str, Path, str], run_library: RunModule) -> None:
    name, archive, identity = tiny
    os.truncate(archive, archive.stat().st_size // 2)
    result = run_library("container_image", {"reference": name, "archive": str(archive), "ids": [identity]})
    assert result.failed
    assert "Copy it again" in result["remedy"]
    assert docker("images", "--quiet", name) == ""
