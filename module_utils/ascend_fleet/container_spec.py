# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training container is made of, resolved against the server: every device node and every mount source is looked at first.

Docker itself would fail late on an absent device, and for an absent mount source it makes an empty directory *on the server*, which
the next check then takes for a damaged driver.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat as stat_module
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .errors import InputError, ProblemsError
from .host import Host

LABEL_SPEC = "ascend-fleet.spec"
LABEL_HASH = "ascend-fleet.spec-hash"
TYPES = ("file", "directory", "any")


@dataclass(frozen=True)
class Mount:
    """A path of the server and where it shows in the container."""

    source: str
    target: str
    read_only: bool = False

    def argument(self) -> str:
        """Return the value of `--mount`; unlike `-v` it never makes a source that is absent."""
        return f"type=bind,source={self.source},target={self.target}" + (",readonly" if self.read_only else "")


@dataclass(frozen=True)
class ContainerSpec:
    """Everything that makes a container what it is, apart from its image's id."""

    name: str
    image: str
    devices: Sequence[str]
    mounts: Sequence[Mount]
    network: str
    ipc: str
    shm_size: str
    ulimits: Sequence[str]
    environment: Mapping[str, str]
    privileged: bool
    init: bool
    restart: str
    command: Sequence[str]
    extra_arguments: Sequence[str]

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data, in a fixed order, for comparison and display."""
        return {
            "image": self.image,
            "devices": list(self.devices),
            "mounts": [mount.argument() for mount in self.mounts],
            "network": self.network,
            "ipc": self.ipc,
            "shm_size": self.shm_size,
            "ulimits": list(self.ulimits),
            "environment": dict(sorted(self.environment.items())),
            "privileged": self.privileged,
            "init": self.init,
            "restart": self.restart,
            "command": list(self.command),
            "extra_arguments": list(self.extra_arguments),
        }

    def text(self) -> str:
        """Return the specification as one canonical line."""
        return json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))

    def hash(self) -> str:
        """Return the SHA-256 of the specification."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def arguments(self) -> List[str]:
        """Return what follows `docker create`."""
        line = ["--name", self.name, "--network", self.network, "--restart", self.restart]
        line += ["--init"] if self.init else []
        line += ["--privileged"] if self.privileged else []
        line += ["--ipc", self.ipc] if self.ipc else []
        line += ["--shm-size", self.shm_size] if self.shm_size else []
        for option, values in (
            ("--device", self.devices),
            ("--mount", [mount.argument() for mount in self.mounts]),
            ("--ulimit", self.ulimits),
            ("--env", [f"{key}={value}" for key, value in sorted(self.environment.items())]),
            ("--label", [f"{LABEL_SPEC}={self.text()}", f"{LABEL_HASH}={self.hash()}"]),
        ):
            for value in values:
                line += [option, value]
        # The image's own entry point may be anything; the container has to stay up and do nothing.
        return [*line, *self.extra_arguments, "--entrypoint", self.command[0], self.image, *self.command[1:]]


@dataclass(frozen=True)
class Resolved:
    """A specification, and the directories of the server that have to be made before it can be used."""

    spec: ContainerSpec
    new_directories: Sequence[str]


def resolve(host: Host, params: Mapping[str, Any]) -> Resolved:
    """Look at everything the parameters name and return the specification; raises ProblemsError naming all that is wrong."""
    _check_values(params)
    problems: List[str] = []
    devices = _devices(host, params, problems)
    mounts: List[Mount] = []
    new: List[str] = []
    for wanted in params["mounts"]:
        mount = _mount(host, wanted, problems, new)
        if mount:
            mounts.append(mount)
    tool = _first_file(host, params["npu_smi"], problems)
    if tool:
        mounts.append(Mount(tool, tool, True))
    _check_targets(mounts, problems)
    if problems:
        raise ProblemsError(
            problems,
            f"Nothing was touched. Put right what container {params['name']} needs on this server, or change its variables.",
        )
    return Resolved(_spec(params, devices, mounts), new)


def _spec(params: Mapping[str, Any], devices: Sequence[str], mounts: Sequence[Mount]) -> ContainerSpec:
    return ContainerSpec(
        name=params["name"],
        image=params["image"],
        devices=devices,
        mounts=sorted(mounts, key=lambda mount: mount.target),
        network=params["network"],
        ipc=params["ipc"],
        shm_size=params["shm_size"],
        ulimits=[f"{name}={value}" for name, value in sorted(params["ulimits"].items())],
        environment={key: str(value) for key, value in params["environment"].items()},
        privileged=params["privileged"],
        init=params["init"],
        restart=params["restart"],
        command=params["command"],
        extra_arguments=params["extra_arguments"],
    )


def _check_values(params: Mapping[str, Any]) -> None:
    npus = params["npus"]
    if len(set(npus)) != len(npus) or any(number < 0 for number in npus):
        raise InputError(f"NPU list {npus} names a card twice or a negative number.", "Correct ascend_npus.")
    if params["ipc"] == "host" and params["shm_size"]:
        raise InputError(
            f"ipc host and shm_size {params['shm_size']} contradict each other: with ipc host the server's own /dev/shm is used.",
            "Set ipc to private, or leave shm_size empty.",
        )
    if not params["command"]:
        raise InputError("The container's command is empty.", "Leave it out, or name a program that stays.")


def _devices(host: Host, params: Mapping[str, Any], problems: List[str]) -> List[str]:
    directory = params["device_directory"]
    wanted = [f"davinci{number}" for number in sorted(params["npus"])] + list(params["manager_devices"])
    present = [name for name in host.list_dir(directory) if name.startswith("davinci") and name[7:].isdigit()]
    devices = []
    for name in wanted:
        path = os.path.join(directory, name)
        found = host.stat(path)
        if found is None:
            cards = f" (cards here: {', '.join(present) or 'none'})" if name not in params["manager_devices"] else ""
            problems.append(f"device {path} is absent{cards}")
        elif not stat_module.S_ISCHR(found.st_mode):
            problems.append(f"{path} is no device but {_kind(found)}: remove it and load the driver again")
        # The driver's library looks below /dev, wherever the server keeps the nodes.
        devices.append(path if directory == "/dev" else f"{path}:/dev/{name}")
    return devices


def _mount(host: Host, wanted: Mapping[str, Any], problems: List[str], new: List[str]) -> Optional[Mount]:
    source, kind = wanted["source"], wanted.get("type") or "any"
    mount = Mount(source, wanted.get("target") or source, bool(wanted.get("read_only")))
    if "," in mount.source + mount.target:
        problems.append(f"mount source {source} has a comma in its path, which Docker cannot take")
        return None
    found = host.stat(source)
    if found is None:
        if wanted.get("create"):
            new.append(source)
            return mount
        if not wanted.get("optional"):
            problems.append(f"mount source {source} is absent")
        return None
    if kind == "file" and stat_module.S_ISDIR(found.st_mode):
        problems.append(_trap(host, source))
    elif kind == "directory" and not stat_module.S_ISDIR(found.st_mode):
        problems.append(f"mount source {source} is to be a directory and is {_kind(found)}")
    return mount


def _trap(host: Host, source: str) -> str:
    if host.list_dir(source):
        return f"mount source {source} is to be a file and is a directory"
    return (
        f"mount source {source} is to be a file and is an empty directory, as `docker run -v` makes one for a file that is absent: "
        "remove it (rmdir) and put the file back"
    )


def _first_file(host: Host, paths: Sequence[str], problems: List[str]) -> Optional[str]:
    """Return where npu-smi is: drivers put it in one of several places, and a mount needs the right one."""
    for path in paths:
        if host.is_file(path):
            return path
    if paths:
        problems.append(f"npu-smi is at none of {', '.join(paths)}")
    return None


def _check_targets(mounts: Sequence[Mount], problems: List[str]) -> None:
    targets = [mount.target for mount in mounts]
    for target in sorted({target for target in targets if targets.count(target) > 1}):
        problems.append(f"two mounts have the same target {target}")


def _kind(found: os.stat_result) -> str:
    if stat_module.S_ISDIR(found.st_mode):
        return "a directory"
    return "a file" if stat_module.S_ISREG(found.st_mode) else "something else"
