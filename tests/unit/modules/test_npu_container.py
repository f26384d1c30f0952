# SPDX-License-Identifier: GPL-3.0-or-later
"""A container with exactly the right devices and mounts, made anew only on drift, and never under a running job."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import npu_container
import pytest
from ansible.module_utils.ascend_fleet.container_spec import LABEL_HASH, LABEL_SPEC, resolve
from ansible.module_utils.ascend_fleet.docker_probe import PROGRAM
from ansible.module_utils.ascend_fleet.host import Container

from tests.conftest import ModuleResult, RunModule, ScriptedHost

NAME = "llm"
IMAGE = "mindspeed-llm:test"
IMAGE_ID = "sha256:" + "a" * 64
PROBED = {
    "python": "3.8.18",
    "executable": "/usr/bin/python",
    "machine": "aarch64",
    "torch": "2.1.0",
    "torch_npu": "2.1.0",
}


def option(argv: list[str], name: str) -> list[str]:
    """All values of an option in a command line."""
    return [argv[place + 1] for place, word in enumerate(argv) if word == name]


@dataclass
class Server:
    """A server with device nodes and driver files below a directory, and a scripted engine."""

    root: Path
    host: ScriptedHost
    run_library: RunModule
    created: list[list[str]] = field(default_factory=list)

    def prepare(self) -> None:
        devices = self.root / "dev"
        devices.mkdir()
        for name in ("davinci0", "davinci2", "davinci3", "davinci_manager", "devmm_svm", "hisi_hdc"):
            (devices / name).symlink_to("/dev/null")  # a character device that everybody has
        (self.root / "driver").mkdir()
        (self.root / "npu-smi").write_text("")
        (self.root / "hccn.conf").write_text("")

    def params(self, **more: Any) -> dict[str, Any]:
        mounts = [
            {"source": str(self.root / "work"), "type": "directory", "create": True},
            {"source": str(self.root / "driver"), "type": "directory"},
            {"source": str(self.root / "hccn.conf"), "target": "/etc/hccn.conf", "type": "file", "read_only": True},
            {"source": str(self.root / "dcmi"), "type": "directory", "optional": True},
        ]
        return {
            "name": NAME,
            "image": IMAGE,
            "npus": [3, 2],
            "work_root": str(self.root / "work"),
            "device_directory": str(self.root / "dev"),
            "npu_smi": [str(self.root / "absent"), str(self.root / "npu-smi")],
            "mounts": mounts,
            **more,
        }

    def run(self, check_mode: bool = False, **more: Any) -> ModuleResult:
        return self.run_library("npu_container", self.params(**more), self.host, check_mode)

    # What the engine is expected to be asked

    def image(self, identity: str = IMAGE_ID) -> None:
        self.host.expect(["docker", "image", "inspect", IMAGE], json.dumps([{"Id": identity}]))

    def container(self, labels: dict[str, str], status: str = "running", identity: str = "c1") -> None:
        data = {
            "Id": identity,
            "Name": f"/{NAME}",
            "Image": IMAGE_ID,
            "State": {"Status": status, "StartedAt": "2026-01-01T00:00:00Z"},
            "Config": {"Image": IMAGE, "Labels": labels},
        }
        self.host.expect(["docker", "container", "inspect", NAME], json.dumps([data]))

    def no_container(self, name: str = NAME) -> None:
        said = f"Error response from daemon: No such container: {name}"
        self.host.expect(["docker", "container", "inspect", name], "[]", 1, said)

    def probe(self, npus: int = 2, **more: Any) -> None:
        answer = {**PROBED, "npus": npus, "errors": {}, **more}
        command = Container(self.host, NAME).command(["python", "-"], interactive=True)
        self.host.expect(
            command,
            f"torch says hello\n\n{json.dumps(answer)}\n",
        )

    def do(self, *argv: str, rc: int = 0, stderr: str = "") -> None:
        self.host.expect(["docker", *argv], "", rc, stderr)

    def create(self, **more: Any) -> dict[str, str]:
        """Expect the creation of the container that the parameters describe; return its labels."""
        predicted = self.predict(**more)
        self.host.expect(["docker", "create", *predicted], "c1\n")
        labels = dict(label.split("=", 1) for label in option(predicted, "--label"))
        self.created.append(predicted)
        return labels

    def predict(self, **more: Any) -> list[str]:
        defaults = {key: spec.get("default") for key, spec in npu_container.ARGUMENTS.items()}
        return resolve(self.host, {**defaults, **self.params(**more)}).spec.arguments()


@pytest.fixture
def server(tmp_path: Path, scripted_host: ScriptedHost, run_library: RunModule) -> Server:
    made = Server(tmp_path, scripted_host, run_library)
    made.prepare()
    return made


def made(server: Server) -> dict[str, str]:
    """Take the server through a first run and return the container's labels."""
    server.image()
    server.no_container()
    labels = server.create()
    server.do("start", NAME)
    server.do("exec", NAME, "true")
    server.no_container(f"{NAME}.replaced")
    server.container(labels)
    server.probe()
    result = server.run()
    assert not result.failed, result["msg"]
    return labels


def test_the_first_run_creates_starts_and_looks_from_inside(server: Server) -> None:
    server.image()
    server.no_container()
    labels = server.create()
    server.do("start", NAME)
    server.do("exec", NAME, "true")
    server.no_container(f"{NAME}.replaced")
    server.container(labels)
    server.probe()
    result = server.run()
    assert result.changed
    assert result["found"] == "absent"
    assert result["container"]["id"] == "c1"
    assert result["probe"]["npus"] == 2
    assert server.host.stdins[-1] == PROGRAM
    assert (server.root / "work").is_dir()
    assert result["diff"]["before"] == {}
    assert result["diff"]["after"]["devices"][0] == f"{server.root}/dev/davinci2:/dev/davinci2"


def test_the_command_line_gives_exactly_what_was_asked_for(server: Server) -> None:
    line = server.predict(ulimits={"memlock": -1}, environment={"B": "2", "A": 1})
    devices = [Path(device).name for device in option(line, "--device")]
    assert devices == ["davinci2", "davinci3", "davinci_manager", "devmm_svm", "hisi_hdc"]
    assert "--privileged" not in line
    assert "--init" in line
    assert option(line, "--ulimit") == ["memlock=-1"]
    assert option(line, "--env") == ["A=1", "B=2"]
    mounts = option(line, "--mount")
    assert f"type=bind,source={server.root}/hccn.conf,target=/etc/hccn.conf,readonly" in mounts
    assert any(f"source={server.root}/npu-smi" in mount for mount in mounts)
    assert not any("dcmi" in mount for mount in mounts), "optional and absent"
    assert not any(word in ("-v", "--volume") for word in line), "-v would make absent sources"
    assert line[-3:] == ["sleep", IMAGE, "infinity"]
    labels = dict(label.split("=", 1) for label in option(line, "--label"))
    assert json.loads(labels[LABEL_SPEC])["network"] == "host"


def test_the_second_run_only_looks(server: Server) -> None:
    labels = made(server)
    server.image()
    server.container(labels)
    result = server.run()
    assert not result.changed
    assert result["probe"]["npus"] == 2, "remembered by the receipt"
    assert "diff" not in result.data
    assert result["actions"] == []


def test_check_mode_predicts_and_touches_nothing(server: Server) -> None:
    server.image()
    server.no_container()
    result = server.run(check_mode=True)
    assert result.changed
    assert result["actions"][0] == f"make directory {server.root}/work"
    assert result["container"] is None
    assert not (server.root / "work").exists()


def test_check_mode_predicts_before_the_image_is_there(server: Server) -> None:
    server.do("image", "inspect", IMAGE, rc=1, stderr="No such image: x")
    server.no_container()
    assert server.run(check_mode=True).changed


def test_drift_is_shown_and_the_container_made_anew(server: Server) -> None:
    labels = made(server)
    server.image()
    server.container(labels)
    server.host.expect(["docker", "top", NAME, "-eo", "pid,args"], "PID COMMAND\n1 sleep infinity\n")
    server.no_container(f"{NAME}.replaced")
    server.do("stop", "--time", "20", NAME)
    server.do("rename", NAME, f"{NAME}.replaced")
    new = server.create(npus=[0])
    server.do("start", NAME)
    server.do("exec", NAME, "true")
    server.do("rm", "--force", f"{NAME}.replaced")
    server.container(new, identity="c2")
    server.probe(npus=1)
    result = server.run(npus=[0])
    assert result.changed
    assert result["found"] == "different"
    assert result["actions"][0] == f"create container {NAME} anew, because of: devices"
    assert [Path(path).name for path in result["diff"]["before"]["devices"]][:2] == ["davinci2", "davinci3"]
    assert [Path(path).name for path in result["diff"]["after"]["devices"]][:1] == ["davinci0"]


def test_another_image_under_the_same_name_is_drift(server: Server) -> None:
    labels = made(server)
    server.image("sha256:" + "b" * 64)
    server.container(labels)
    server.host.expect(["docker", "top", NAME, "-eo", "pid,args"], "PID COMMAND\n")
    result = server.run(check_mode=True)
    assert result["actions"][0].endswith("because of: image_id")


def test_a_container_with_a_running_job_is_left_alone(server: Server) -> None:
    labels = made(server)
    server.image()
    server.container(labels)
    job = "77 python /data/workers/supervise_training.py --run 1"
    server.host.expect(["docker", "top", NAME, "-eo", "pid,args"], f"PID COMMAND\n1 sleep infinity\n{job}\n")
    result = server.run(npus=[0])
    assert result.failed
    assert job in result["msg"]
    assert "stop-training.yml" in result["remedy"]


def test_a_container_that_somebody_else_made_is_left_alone(server: Server) -> None:
    server.image()
    server.container({"maintainer": "somebody"})
    result = server.run()
    assert result.failed
    assert "training_container_replace_foreign" in result["remedy"]


def test_a_new_container_that_does_not_start_gives_way_to_the_old(server: Server) -> None:
    labels = made(server)
    server.image()
    server.container(labels)
    server.host.expect(["docker", "top", NAME, "-eo", "pid,args"], "PID COMMAND\n")
    server.no_container(f"{NAME}.replaced")
    server.do("stop", "--time", "20", NAME)
    server.do("rename", NAME, f"{NAME}.replaced")
    server.create(npus=[0])
    server.do("start", NAME, rc=1, stderr="OCI runtime create failed")
    server.do("rm", "--force", "c1")
    server.do("rename", f"{NAME}.replaced", NAME)
    server.do("start", NAME)
    result = server.run(npus=[0])
    assert result.failed
    assert "OCI runtime create failed" in result["msg"]


def test_a_container_that_another_run_made_meanwhile_is_left_alone(server: Server) -> None:
    server.image()
    server.no_container()
    taken = f'Conflict. The container name "/{NAME}" is already in use by container "c7".'
    server.do("create", *server.predict(), rc=1, stderr=taken)
    result = server.run()
    assert result["msg"].startswith(f"A container of that name came up in the meantime: {taken}")
    assert "Another run is at work on this server" in result["remedy"]


@pytest.mark.parametrize(("status", "step"), [("exited", "start"), ("created", "start"), ("paused", "unpause")])
def test_a_stopped_container_is_started_and_looked_at_again(server: Server, status: str, step: str) -> None:
    labels = made(server)
    server.image()
    server.container(labels, status=status, identity="c9")
    server.do(step, NAME)
    server.container(labels, identity="c9")
    server.probe()
    result = server.run()
    assert result.changed
    assert result["found"] == "stopped"


def test_a_container_that_sees_fewer_npus_fails_every_time(server: Server) -> None:
    server.image()
    server.no_container()
    labels = server.create()
    server.do("start", NAME)
    server.do("exec", NAME, "true")
    server.no_container(f"{NAME}.replaced")
    server.container(labels)
    server.probe(npus=0)
    first = server.run()
    assert first.failed
    assert "NPU 3, 2 (2), but torch_npu sees 0" in first["msg"]
    server.image()
    server.container(labels)
    server.probe(npus=0)
    assert server.run().failed, "a container that was found unfit is not taken for a good one later"


def test_npu_software_that_does_not_load_says_why(server: Server) -> None:
    server.image()
    server.no_container()
    labels = server.create()
    server.do("start", NAME)
    server.do("exec", NAME, "true")
    server.no_container(f"{NAME}.replaced")
    server.container(labels)
    server.probe(errors={"torch_npu": "ImportError: libhccl.so: cannot open shared object file"})
    result = server.run()
    assert result.failed
    assert "libhccl.so" in result["msg"]


def test_an_absent_image_is_named(server: Server) -> None:
    server.do("image", "inspect", IMAGE, rc=1, stderr=f"Error: No such image: {IMAGE}")
    result = server.run()
    assert result.failed
    assert IMAGE in result["msg"]


def test_everything_wrong_is_named_at_once_and_docker_not_asked(server: Server) -> None:
    (server.root / "dev" / "hisi_hdc").unlink()
    (server.root / "hccn.conf").unlink()
    (server.root / "hccn.conf").mkdir()
    (server.root / "driver").rmdir()
    (server.root / "npu-smi").unlink()
    result = server.run(npus=[2, 7])
    assert result.failed
    problems = "\n".join(result["problems"])
    assert "davinci7 is absent (cards here: davinci0, davinci2, davinci3)" in problems
    assert "hisi_hdc is absent" in problems
    assert "driver is absent" in problems
    assert "is an empty directory" in problems
    assert "npu-smi is at none of" in problems
    assert server.host.calls == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"npus": [2, 2]}, "twice"),
        ({"ipc": "host", "shm_size": "200g"}, "contradict"),
        ({"command": []}, "empty"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(server: Server, more: dict[str, Any], said: str) -> None:
    result = server.run(**more)
    assert result.failed
    assert said in result["msg"]


def test_a_file_where_a_device_should_be_is_named(server: Server) -> None:
    node = server.root / "dev" / "davinci2"
    node.unlink()
    node.write_text("")
    assert "no device but a file" in server.run()["msg"]


def test_the_label_changes_with_every_part_of_the_specification(server: Server) -> None:
    hashes = set()
    for more in ({}, {"npus": [2]}, {"shm_size": "1g", "ipc": "private"}, {"environment": {"A": "1"}}, {"init": False}):
        line = server.predict(**more)
        hashes.add(dict(label.split("=", 1) for label in option(line, "--label"))[LABEL_HASH])
    assert len(hashes) == 5
