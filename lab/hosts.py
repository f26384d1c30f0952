# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's hosts as containers: what each should be (a spec), whether it is so, and making it so."""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import socket
import tarfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import NamedTuple

from lab import keys, network
from lab.shell import CLONE, LAB, SITE_PACKAGES, LabError, attempt, run, say

LABEL = "ascend-lab"
START_SECONDS = 40.0
CGROUPS = Path("/sys/fs/cgroup")
# Who may log in with the lab's key: home directory -> uid (images/host/root/usr/local/lib/ascend-lab/make-users).
LOGINS = {"root": 0, "home/deploy": 1010, "home/clerk": 1011}
# A server runs a Docker engine of its own inside a container. Not --privileged: build machines can lack
# CAP_SYS_RESOURCE, and the engine refuses to hand on what it does not have.
NESTED_ENGINE = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--security-opt", "systempaths=unconfined"),
    *("--cgroupns=host", "--volume", f"{CGROUPS}:{CGROUPS}:rw"),
    *("--shm-size", "2g"),
)


@dataclass(frozen=True)
class Host:
    """A host of the lab. `number` is the last part of its address; its NPUs follow at number * 10."""

    name: str
    number: int
    image: str
    npus: int = 0

    @property
    def container(self) -> str:
        """The container's name."""
        return f"{LAB}-{self.name}"

    @property
    def volume(self) -> str:
        """Where the server's own Docker engine keeps its data."""
        return f"{self.container}-docker"


HOSTS = (Host("staging-1", 10, "staging"), Host("npu-1", 11, "server", 4), Host("npu-2", 12, "server", 4))


@dataclass(frozen=True)
class Plan:
    """Everything that decides what the hosts are: image tags, the subnet, and what is put on each host."""

    subnet: IPv4Network
    images: dict[str, str]
    content: dict[str, str] = field(default_factory=dict)

    def address(self, host: Host) -> str:
        """A host's address."""
        return str(network.address(self.subnet, host.number))

    def addresses(self) -> dict[str, str]:
        """Every host's address by name."""
        return {host.name: self.address(host) for host in HOSTS}


def create_arguments(host: Host, plan: Plan) -> list[str]:
    """Arguments of `docker create` for a host, without its spec label."""
    arguments = ["--name", host.container, "--hostname", host.name, "--label", f"{LABEL}={host.name}"]
    arguments += ["--network", LAB, "--ip", plan.address(host)]
    for name, address in plan.addresses().items():
        if name != host.name:  # the engine writes a host's own line
            arguments += ["--add-host", f"{name}:{address}"]
    arguments += ["--cap-add", "NET_ADMIN"]  # to take its default route away
    if host.npus:
        arguments += [*NESTED_ENGINE, "--env", f"LAB={LAB}", "--volume", f"{host.volume}:/var/lib/docker"]
        arguments += ["--volume", f"{SITE_PACKAGES}:/opt/lab/site-packages:ro"]
    return [*arguments, plan.images[host.image]]


class Placed(NamedTuple):
    """A file or (without text) a directory that is put on a host before it starts."""

    text: str | None
    mode: int
    owner: int = 0


def files(host: Host, plan: Plan) -> dict[str, Placed]:
    """What is put on a host before it starts, by path."""
    key = keys.host_key(host.name)
    placed = {
        "etc/ssh/ssh_host_ed25519_key": Placed(key.read_text(encoding="utf-8"), 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": Placed(keys.public(key) + "\n", 0o644),
    }
    for home, owner in LOGINS.items():
        placed[f"{home}/.ssh"] = Placed(None, 0o700, owner)
        placed[f"{home}/.ssh/authorized_keys"] = Placed(keys.public(keys.LOGIN_KEY) + "\n", 0o600, owner)
    if host.npus:
        placed["etc/hccn.conf"] = Placed(hccn_conf(host, plan.subnet), 0o644)
    return placed


def hccn_conf(host: Host, subnet: IPv4Network) -> str:
    """The NPU network's settings as the driver reads them at boot."""
    bridge = network.address(subnet, 1)
    lines = []
    for npu in range(host.npus):
        lines += [
            f"address_{npu}={network.address(subnet, host.number * 10 + npu)}",
            f"netmask_{npu}={subnet.netmask}",
            f"netdetect_{npu}={bridge}",
            f"gateway_{npu}={bridge}",
            f"send_arp_status_{npu}=1",
        ]
    return "".join(f"{line}\n" for line in lines)


def spec(host: Host, plan: Plan) -> str:
    """A hash of everything that decides this host, the clone's place included."""
    parts = [create_arguments(host, plan), files(host, plan), plan.content.get(host.name, ""), str(CLONE)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def running_specs() -> dict[str, str]:
    """Spec of every running host of this lab by name; hosts that are stopped are left out."""
    form = '{{.Label "ascend-lab"}} {{.Label "ascend-lab.spec"}}'
    own = ["--filter", f"label={LABEL}", "--filter", f"name=^{LAB}-"]
    listed = run(["docker", "ps", *own, "--format", form])
    return dict(line.split() for line in listed.splitlines() if len(line.split()) == 2)


def all_containers() -> dict[str, str]:
    """Every container with the lab's label, running or not: name -> the clone that made it."""
    form = '{{.Names}}\t{{.Label "ascend-lab.clone"}}'
    listed = run(["docker", "ps", "--all", "--filter", f"label={LABEL}", "--format", form])
    return {name: clone for name, _, clone in (line.partition("\t") for line in listed.splitlines())}


def pack(entries: dict[str, Placed]) -> bytes:
    """A tar of the entries, in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, placed in entries.items():
            data = (placed.text or "").encode()
            entry = tarfile.TarInfo(path)
            entry.type = tarfile.DIRTYPE if placed.text is None else tarfile.REGTYPE
            entry.size, entry.mode, entry.mtime = len(data), placed.mode, int(time.time())
            entry.uid = entry.gid = placed.owner
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def create(host: Host, plan: Plan) -> None:
    """Make a host's container with its files on it, not yet started."""
    labels = ["--label", f"ascend-lab.spec={spec(host, plan)}", "--label", f"ascend-lab.clone={CLONE}"]
    if host.npus:
        run(["docker", "volume", "create", "--label", f"{LABEL}={host.name}", host.volume])
    run(["docker", "create", *labels, *create_arguments(host, plan)])
    run(["docker", "cp", "-", f"{host.container}:/"], pack(files(host, plan)))


def start(hosts: Sequence[Host], plan: Plan) -> None:
    """Start hosts and wait until each answers on its ssh port and, where it has one, its engine."""
    if not hosts:
        return
    run(["docker", "start", *(host.container for host in hosts)])
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda host: _wait(host, plan.address(host)), hosts))


def _wait(host: Host, address: str) -> None:
    end = time.monotonic() + START_SECONDS
    while not _ready(host, address):
        if time.monotonic() > end:
            logs = attempt(["docker", "logs", "--tail", "20", host.container])
            said = (logs.stdout + logs.stderr).decode(errors="replace").strip()
            raise LabError(
                f"{host.name} ({address}) is not ready after {START_SECONDS:.0f} s; look at /var/log/ascend-lab in it "
                f"with `docker exec {host.container} ...`. Its first process said: {said or 'nothing'}"
            )
        time.sleep(0.2)


def _ready(host: Host, address: str) -> bool:
    if not port_answers(address):
        return False
    engine = ["docker", "exec", host.container, "docker", "version"]
    return not host.npus or attempt(engine).returncode == 0


def port_answers(address: str, port: int = 22) -> bool:
    """True when something accepts connections there."""
    try:
        with socket.create_connection((address, port), timeout=1.0):
            return True
    except OSError:
        return False


def remove(containers: Sequence[str]) -> None:
    """Remove containers with the volumes of their engines and the cgroups that their containers left."""
    if containers:
        image = run(["docker", "inspect", "--format", "{{.Image}}", containers[0]])
        run(["docker", "rm", "--force", "--volumes", *containers])
        _remove_cgroups(containers, image)
    remove_volumes(f"{name}-docker" for name in containers)


def remove_volumes(names: Iterable[str]) -> None:
    """Remove those of the named volumes that are there and the lab's."""
    there = run(["docker", "volume", "ls", "--quiet", "--filter", f"label={LABEL}"]).split()
    doomed = sorted(set(there) & set(names))
    if doomed:
        run(["docker", "volume", "rm", *doomed])


def _remove_cgroups(containers: Sequence[str], image: str) -> None:
    """Remove the empty cgroups of a server's containers, which outlive it: from a container, since here only root may."""
    names = [f"ascend-lab/{name}" for name in containers]
    left = [top for name in names for top in [*CGROUPS.glob(f"*/{name}"), *CGROUPS.glob(name)]]
    if not left:
        return
    parents = sorted({str(top.parent) for top in left})  # other labs may have theirs in it
    script = f'find "$@" -depth -type d -exec rmdir {{}} + ; rmdir {shlex.join(parents)} 2>/dev/null'
    mount = ["--cgroupns=host", "--volume", f"{CGROUPS}:{CGROUPS}:rw", "--network", "none"]
    argv = ["docker", "run", "--rm", *mount, "--entrypoint", "sh", image, "-c", script, "remove", *map(str, left)]
    said = attempt(argv).stderr.decode(errors="replace").strip()
    stay = [str(top) for top in left if top.exists()]
    if stay:
        say(f"cgroups stay: {', '.join(stay)} ({said})")
