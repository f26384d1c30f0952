# SPDX-License-Identifier: GPL-3.0-or-later
"""Many ssh-reachable hosts on one machine, light enough for hundreds: namespaces over this machine's own root file system.

A host is a network, process, mount and name namespace with an sshd of its own. Its files are this machine's, seen through an overlay,
with one layer for all hosts and one for each on top; what a host writes is gone with it. Everything is removed when the context ends,
and a machine that lost its benchmark without that is cleaned by the next one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BASE = Path("/run/fleet-benchmark")
BRIDGE = "fleetbench0"
GATEWAY = "198.18.0.1"  # of the block that is set aside for benchmarks (RFC 2544)
READY_SECONDS = 120.0
_RULE = ["-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT"]
_NEEDED = ("sshd", "ssh-keygen", "setpriv", "unshare", "nsenter", "ip", "mount", "umount", "chroot")

_SSHD = """\
HostKey /etc/ssh/benchmark_host_key
AuthorizedKeysFile /etc/ssh/benchmark_authorized_keys
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
MaxStartups 500
LogLevel ERROR
PidFile none
"""
# $1: name, $2: lower layers, $3: the host's directory, $4: number of NPUs. The shell becomes the host's first process.
_BOOT = """\
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$2,upperdir=$3/upper,workdir=$3/work" "$3/root"
cd "$3/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
for name in davinci_manager devmm_svm hisi_hdc; do mknod -m 660 "dev/$name" c 1 3; done
number=0
while [ "$number" -lt "$4" ]; do mknod -m 660 "dev/davinci$number" c 1 3; number=$((number + 1)); done
mkdir -p run/sshd
hostname "$1"
exec chroot . /usr/sbin/sshd -D -e -f /etc/ssh/benchmark_sshd_config
"""


@dataclass(frozen=True)
class Layer:
    """Files to put on a host: path from the root -> (text, mode)."""

    files: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def write(self, root: Path) -> None:
        for path, (text, mode) in self.files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            target.chmod(mode)


@dataclass(frozen=True)
class LightHost:
    """A running host."""

    name: str
    address: str
    process: subprocess.Popen[bytes]


@dataclass(frozen=True)
class Fleet:
    """The running hosts, how to log in, and what starting them took: seconds, and MB of memory that became used."""

    hosts: Sequence[LightHost]
    key: Path
    known_hosts: Path
    seconds: float
    memory_mb: float


def address(number: int) -> str:
    """Return the address of host `number`, counted from 1."""
    return f"198.18.{1 + number // 250}.{1 + number % 250}"


@contextlib.contextmanager
def light_hosts(names: Sequence[str], shared: Layer, own: Mapping[str, Layer], npus: int) -> Iterator[Fleet]:
    """Start a host of each name; `shared` is on all of them, `own[name]` on one. Removes all of it in the end, also on SIGTERM."""
    _require()
    previous = signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(SystemExit(143)))
    clean()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        _prepare(shared)
        begun, before = time.monotonic(), _available_mb()
        for name in names:
            processes.append(_start(name, own.get(name, Layer()), npus))
        hosts = [
            LightHost(name, address(number), process)
            for number, (name, process) in enumerate(zip(names, processes), start=1)
        ]
        _connect(hosts)
        _wait(hosts)
        seconds = time.monotonic() - begun
        yield Fleet(hosts, BASE / "login", BASE / "known_hosts", seconds, before - _available_mb())
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        clean()
        signal.signal(signal.SIGTERM, previous)


def _require() -> None:
    if os.geteuid() != 0:
        raise SystemExit("Only root can make namespaces with devices: run this as root.")
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in _NEEDED if not shutil.which(name, path=path)]
    if missing:
        raise SystemExit(f"{', '.join(missing)} not found: install openssh-server, util-linux and iproute2.")


def clean() -> None:
    """Remove the bridge, the rule of Docker's firewall and the files; what is not there is fine."""
    _quiet(["ip", "link", "delete", BRIDGE])
    while _quiet(["iptables", "-D", "DOCKER-USER", *_RULE]):
        pass
    while BASE.is_dir() and _quiet(["umount", str(BASE)]):
        pass
    with contextlib.suppress(FileNotFoundError):
        BASE.rmdir()


def _quiet(argv: Sequence[str]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _prepare(shared: Layer) -> None:
    """Make the keys, the layer of all hosts and the bridge. The files are in memory, so that the disk is not measured."""
    BASE.mkdir(mode=0o700)
    _run(["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", str(BASE)])
    for name in ("login", "host"):
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "fleet-benchmark", "-f", str(BASE / name)])
    host_key = (BASE / "host.pub").read_text(encoding="utf-8")
    (BASE / "known_hosts").write_text(f"198.18.* {host_key}", encoding="utf-8")
    login = {
        "etc/ssh/benchmark_host_key": ((BASE / "host").read_text(encoding="utf-8"), 0o600),
        "etc/ssh/benchmark_authorized_keys": ((BASE / "login.pub").read_text(encoding="utf-8"), 0o600),
        "etc/ssh/benchmark_sshd_config": (_SSHD, 0o600),
    }
    Layer({**shared.files, **login}).write(BASE / "shared")
    (BASE / "shared").chmod(0o755)
    _run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    _run(["ip", "address", "add", f"{GATEWAY}/16", "dev", BRIDGE])
    _run(["ip", "link", "set", BRIDGE, "up"])
    # Docker drops what is forwarded, also between the ports of other bridges.
    _quiet(["iptables", "-I", "DOCKER-USER", *_RULE])


def _start(name: str, own: Layer, npus: int) -> subprocess.Popen[bytes]:
    place = BASE / name
    for part in ("upper", "work", "root"):
        (place / part).mkdir(parents=True)
    (place / "upper").chmod(0o755)
    own.write(place / "upper")
    # --pdeathsig: the hosts end with this program, however it ends.
    argv = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--pid", "--net", "--fork", "--kill-child"]
    argv += ["sh", "-c", _BOOT, "host", name, f"{BASE / 'shared'}:/", str(place), str(npus)]
    with (place / "log").open("wb") as log:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _connect(hosts: Sequence[LightHost]) -> None:
    """Give each host an eth0 on the bridge. Its namespace is there as soon as it differs from ours."""
    ours = os.readlink("/proc/self/ns/net")
    for number, host in enumerate(hosts, start=1):
        pid, inside = host.process.pid, f"/proc/{host.process.pid}/ns/net"
        _until(host, lambda inside=inside: os.path.exists(inside) and os.readlink(inside) != ours)  # type: ignore[misc]
        pair = ["type", "veth", "peer", "name", "eth0", "netns", str(pid)]
        _run(["ip", "link", "add", f"{BRIDGE}p{number}"[-15:], "master", BRIDGE, "up", *pair])
        setup = f"address add {host.address}/16 dev eth0\nlink set eth0 up\nlink set lo up\n"
        _run(["nsenter", "--net", "--target", str(pid), "ip", "-batch", "-"], setup)


def _wait(hosts: Sequence[LightHost]) -> None:
    for host in hosts:
        _until(host, lambda host=host: _answers(host.address))  # type: ignore[misc]


def _answers(place: str) -> bool:
    try:
        with socket.create_connection((place, 22), timeout=2) as wire:
            return wire.recv(4) == b"SSH-"
    except OSError:
        return False


def _until(host: LightHost, ready: object) -> None:
    end = time.monotonic() + READY_SECONDS
    while not ready():  # type: ignore[operator]
        if host.process.poll() is not None or time.monotonic() > end:
            log = (BASE / host.name / "log").read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"{host.name} did not start: {log.strip() or 'it said nothing'}")
        time.sleep(0.02)


def _run(argv: Sequence[str], stdin: str = "") -> None:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"`{' '.join(argv)}` ended with status {done.returncode}: {done.stderr.strip()}")


def _available_mb() -> float:
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    return 0.0
