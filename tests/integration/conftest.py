# SPDX-License-Identifier: GPL-3.0-or-later
"""A real sshd on loopback with keys and files of its own, and a relay in front of it that counts and cuts."""

from __future__ import annotations

import getpass
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import free_ports

CHUNK = 65536  # bytes that the relay passes on at once
STARTUPS = 3  # connections without a login that sshd takes; it turns away the next ones


@dataclass
class Sshd:
    """Where the daemon listens and which files it uses."""

    port: int
    authorized_keys: Path
    host_key: Path
    log: Path
    user: str = field(default_factory=getpass.getuser)


@dataclass
class Relay:
    """A TCP relay to the daemon. `received` counts the bytes that came from it; `cut_after` ends the first connection there."""

    target: int
    cut_after: int | None = None
    received: int = 0
    connections: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            limit = self.cut_after if self.connections == 1 else None
            threading.Thread(target=self._pass_on, args=(client, limit), daemon=True).start()

    def _pass_on(self, client: socket.socket, limit: int | None) -> None:
        passed = 0
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for source, drain in ((client, server), (server, client)):
                    if source not in ready:
                        continue
                    data = source.recv(CHUNK)
                    if not data:
                        return
                    drain.sendall(data)
                    if source is server:
                        passed += len(data)
                        self.received += len(data)
                if limit is not None and passed > limit:
                    return


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin")
    if program is None:
        pytest.skip("no sshd on this machine")
    place = tmp_path / "sshd"
    place.mkdir(mode=0o700)
    (port,) = free_ports(1)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / "host_key")], check=True)
    made = Sshd(port, place / "authorized_keys", place / "host_key.pub", place / "log")
    (place / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {place}/host_key\nAuthorizedKeysFile {made.authorized_keys}\n"
        f"PidFile {place}/pid\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nLogLevel VERBOSE\nMaxStartups {STARTUPS}\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    with made.log.open("w") as log:
        daemon = subprocess.Popen([program, "-D", "-e", "-f", str(place / "config")], stderr=log)
    try:
        _wait_for(port, daemon, made.log)
        yield made
    finally:
        daemon.terminate()
        daemon.wait(10)


@pytest.fixture
def relay(sshd: Sshd) -> Iterator[Relay]:
    made = Relay(sshd.port)
    yield made
    made.close()


def _wait_for(port: int, daemon: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        if daemon.poll() is not None:
            pytest.skip(f"sshd does not start here: {log.read_text()[-300:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail("sshd does not listen")
