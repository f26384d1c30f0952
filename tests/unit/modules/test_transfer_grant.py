# SPDX-License-Identifier: GPL-3.0-or-later
"""transfer_grant: one line comes, one line goes, nobody else's line is touched."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet import serve

from tests.conftest import ModuleResult, RunModule

FOREIGN = (
    b"# keys of the site\r\n"
    b'command="/bin/true" ssh-ed25519 AAAAC3Nz admin@caf\xe9\n'
    b"ssh-rsa AAAAB3 ascend-fleet friend\n"
    b"\n"
    b"ssh-ed25519 AAAAlast nobody@nowhere"
)


class Server:
    """A serving host whose files are in a temporary directory."""

    def __init__(self, run: RunModule, tmp_path: Path) -> None:
        self.run_module = run
        self.root = tmp_path / 'it\'s a "model"'
        self.root.mkdir()
        self.keys = tmp_path / ".ssh" / "authorized_keys"
        self.keys.parent.mkdir()
        self.keys.write_bytes(FOREIGN)
        self.keys.chmod(0o640)
        self.host_key = tmp_path / "ssh_host_test_key.pub"
        self.host_key.write_text("ssh-ed25519 AAAAhost root@somewhere\n")
        self.programs = tmp_path / "programs"

    def call(self, check: bool = False, **params: Any) -> ModuleResult:
        common = {
            "authorized_keys": str(self.keys),
            "login_user": getpass.getuser(),
            "program_dir": str(self.programs),
            "host_key_files": [str(self.host_key)],
        }
        return self.run_module("transfer_grant", {**common, **params}, check_mode=check)

    def open(self, **params: Any) -> ModuleResult:
        return self.call(root=str(self.root), **params)


@pytest.fixture
def server(run_library: RunModule, tmp_path: Path) -> Server:
    return Server(run_library, tmp_path)


def test_a_grant_is_one_line_that_allows_one_command(server: Server, tmp_path: Path) -> None:
    grant = server.open(port=2222)
    assert grant.changed
    text = server.keys.read_bytes()
    assert text.startswith(FOREIGN + b"\n")
    line = text[len(FOREIGN) + 1 :].decode()
    assert line.count("\n") == 1
    assert re.match(
        r'restrict,expiry-time="\d{14}",command=".*serve\.py --root .*" ssh-ed25519 \S+ ascend-fleet ', line
    )
    assert grant["host_keys"] == ["ssh-ed25519 AAAAhost"]
    assert (grant["user"], grant["port"], grant["root"]) == (getpass.getuser(), 2222, str(server.root))
    key = tmp_path / "key"
    key.write_text(grant["private_key"])
    key.chmod(0o600)
    public = subprocess.run(["ssh-keygen", "-y", "-f", str(key)], capture_output=True, text=True, check=True).stdout
    assert public.split()[1] in line


def test_the_program_is_this_very_source(server: Server) -> None:
    server.open()
    installed = server.programs / "serve.py"
    assert installed.read_text() == Path(serve.__file__).read_text()
    assert installed.stat().st_mode & 0o777 == 0o755
    before = installed.stat().st_mtime_ns
    server.open()
    assert installed.stat().st_mtime_ns == before


def test_each_grant_has_a_key_of_its_own_and_ends_alone(server: Server) -> None:
    first, second = server.open(), server.open()
    assert first["private_key"] != second["private_key"]
    ended = server.call(state="absent", id=first["id"])
    assert ended.changed
    assert ended["removed"] == [first["id"]]
    assert ended["diff"] == {"before": {"grants": [first["id"]]}, "after": {"grants": []}}
    assert second["id"] in server.keys.read_text(errors="replace")
    server.call(state="absent", id=second["id"])
    assert server.keys.read_bytes() == FOREIGN + b"\n"
    assert server.keys.stat().st_mode & 0o777 == 0o640
    again = server.call(state="absent", id=second["id"])
    assert not again.changed
    assert "diff" not in again.data


def test_expired_lines_go_with_the_next_call(server: Server) -> None:
    living, expired = server.open(), server.open(lifetime=-5)
    ended = server.call(state="absent", id="another")
    assert ended["removed"] == [expired["id"]]
    assert living["id"] in server.keys.read_text(errors="replace")


def test_check_mode_makes_no_key_and_no_line(server: Server) -> None:
    predicted = server.open(check=True)
    assert predicted.changed
    assert "private_key" not in predicted.data
    assert server.keys.read_bytes() == FOREIGN
    assert not server.programs.exists()
    grant = server.open()
    text = server.keys.read_bytes()
    assert server.call(check=True, state="absent", id=grant["id"]).changed
    assert server.keys.read_bytes() == text


def test_a_linked_file_stays_a_link(server: Server, tmp_path: Path) -> None:
    real = tmp_path / "real_keys"
    server.keys.rename(real)
    server.keys.symlink_to(real)
    server.open()
    assert server.keys.is_symlink()
    assert real.read_bytes().startswith(FOREIGN)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_owner_and_group_stay(server: Server) -> None:
    os.chown(server.keys, 1234, 2345)
    server.open()
    assert (server.keys.stat().st_uid, server.keys.stat().st_gid) == (1234, 2345)


def test_refusals_name_the_value(server: Server) -> None:
    assert "/srv/none is not a directory" in server.call(root="/srv/none")["msg"]
    assert "no user nobody-of-that-name" in server.open(login_user="nobody-of-that-name")["msg"]
    lost = server.open(host_key_files=["/nowhere/*.pub"])
    assert "/nowhere/*.pub" in lost["msg"]
    assert server.keys.read_bytes() == FOREIGN
    assert "missing: id" in server.call(state="absent")["msg"]
