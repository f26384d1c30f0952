# SPDX-License-Identifier: GPL-3.0-or-later
"""Grant, manifest and sync against a real sshd, with real rsync and the real tar stream."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.grant import find_account, manage_grant
from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.transfer import ALIAS, Source, session

from tests.conftest import ModuleResult, RunModule

from .conftest import STARTUPS, Relay, Sshd

BIG = 6_000_000  # bytes of the one file that is large enough to be cut in the middle
METHODS = ["rsync", "tar"]


class WithoutRsync(Host):
    """This machine, as if rsync was not installed."""

    def which(self, program: str) -> str | None:
        return None if program == "rsync" else super().which(program)


class Site:
    """A serving side (grant on a source directory) and a receiving side (a work root) on this machine."""

    def __init__(self, run: RunModule, sshd: Sshd, tmp_path: Path) -> None:
        self.run, self.sshd = run, sshd
        self.source, self.work = tmp_path / "source", tmp_path / "work"
        self.programs, self.cache = tmp_path / "programs", tmp_path / "cache"
        (self.source / "nested").mkdir(parents=True)
        (self.source / "big.bin").write_bytes(random.Random(1).randbytes(BIG))
        (self.source / "nested" / "an odd [name]* $x.txt").write_text("odd\n")
        (self.source / "nested" / "模型.txt").write_text("名\n")
        (self.source / "nested" / "plain.json").write_text("{}\n")
        (self.source / "refs" / "tags").mkdir(parents=True)

    def grant(self, **other: Any) -> dict[str, Any]:
        result = self.run("transfer_grant", {**self.grant_params(), "root": str(self.source), **other})
        assert not result.failed, result.data
        return result.data

    def grant_params(self) -> dict[str, Any]:
        return {
            "authorized_keys": str(self.sshd.authorized_keys),
            "program_dir": str(self.programs),
            "host_key_files": [str(self.sshd.host_key)],
            "port": self.sshd.port,
            "login_user": self.sshd.user,
        }

    def end(self, grant: dict[str, Any]) -> ModuleResult:
        return self.run("transfer_grant", {**self.grant_params(), "state": "absent", "id": grant["id"]})

    def manifest(self) -> dict[str, Any]:
        result = self.run("artifact_manifest", {"path": str(self.source), "cache_dir": str(self.cache)})
        assert not result.failed, result.data
        return result.data

    def sync(
        self,
        grant: dict[str, Any] | None,
        manifest: dict[str, Any] | None = None,
        host: Host | None = None,
        check: bool = False,
        **other: Any,
    ) -> ModuleResult:
        manifest = manifest or self.manifest()
        source = {"name": "store-1", "address": "127.0.0.1", "root": manifest["root"]}
        if grant:
            source.update({key: grant[key] for key in ("user", "port", "host_keys", "private_key", "rsync")})
        source.update(other.pop("source", {}))
        params = {
            "work_root": str(self.work),
            "stage": "weights",
            "manifest": manifest["manifest"],
            "directories": manifest["directories"],
            "source": source,
            **other,
        }
        return self.run("artifact_sync", params, host=host, check_mode=check)

    def assert_same(self) -> None:
        current = self.work / "weights" / "current"
        for path in [path for path in self.source.rglob("*") if path.is_file()]:
            assert (current / path.relative_to(self.source)).read_bytes() == path.read_bytes()
        assert not [path for path in (self.work / "weights").iterdir() if path.name.endswith(".partial")]


@pytest.fixture
def site(run_library: RunModule, sshd: Sshd, tmp_path: Path) -> Site:
    if shutil.which("rsync") is None:
        pytest.skip("no rsync on this machine")
    return Site(run_library, sshd, tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_files_arrive_verified_and_a_second_run_looks_only(site: Site, method: str) -> None:
    assert site.sync(None, check=True).changed, "predicting needs no key"
    assert not site.work.exists()
    grant = site.grant()
    first = site.sync(grant, method=method)
    assert not first.failed, first.data
    # A name that old rsync versions would hand to a shell goes by tar, whatever the wish.
    assert first["method"] == ("rsync+tar" if method == "rsync" else "tar")
    assert first["bytes_to_fetch"] == first["artifact"]["bytes"]
    site.assert_same()
    assert (site.work / "weights" / "current" / "refs" / "tags").is_dir(), "git needs its empty directories"
    second = site.sync(None, method=method)
    assert not second.failed
    assert not second.changed
    assert second["found"] == "ok"
    assert "diff" not in second.data


def test_without_rsync_on_either_side_tar_is_taken(site: Site) -> None:
    grant = site.grant()
    assert site.sync(grant, host=WithoutRsync())["method"] == "tar"
    site.assert_same()
    shutil.rmtree(site.work)
    assert site.sync(grant, host=Host(), source={"rsync": False})["method"] == "tar"
    shutil.rmtree(site.work)
    refused = site.sync(grant, host=Host(), source={"rsync": False}, method="rsync")
    assert refused.failed
    assert "store-1 has none" in refused["msg"]


@pytest.mark.parametrize("method", METHODS)
def test_a_part_that_is_there_is_not_sent_again(site: Site, relay: Relay, method: str) -> None:
    grant = site.grant()
    predicted = site.sync(None, check=True)
    part = site.work / "weights" / f".{predicted['fingerprint']}.partial" / "big.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes((site.source / "big.bin").read_bytes()[: BIG - 100_000])
    done = site.sync(grant, method=method, source={"port": relay.port})
    assert not done.failed, done.data
    site.assert_same()
    assert relay.received < 400_000, "only the end of the file was to come"


@pytest.mark.parametrize("method", METHODS)
def test_a_broken_connection_is_taken_up_where_it_ended(site: Site, relay: Relay, method: str) -> None:
    grant = site.grant()
    relay.cut_after = BIG // 2
    done = site.sync(grant, method=method, source={"port": relay.port})
    assert not done.failed, done.data
    site.assert_same()
    assert relay.connections >= 2
    assert relay.received < BIG * 1.4, "the first half was not to come twice"


def crowd(sshd: Sshd) -> ExitStack:
    """Connect so often without logging in that sshd turns away whoever comes next."""
    with ExitStack() as held:
        for _ in range(STARTUPS):
            held.enter_context(socket.create_connection(("127.0.0.1", sshd.port)))
        return held.pop_all()


def test_a_crowded_sshd_is_asked_again(site: Site, sshd: Sshd) -> None:
    grant, held = site.grant(), crowd(sshd)
    threading.Timer(2.0, held.close).start()
    done = site.sync(grant)
    assert not done.failed, done.data
    assert "MaxStartups" in sshd.log.read_text()
    site.assert_same()


def test_a_crowd_that_does_not_go_is_named_with_its_remedies(
    site: Site, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ansible.module_utils.ascend_fleet.sync.PATIENCE", 1.0)
    grant = site.grant()
    with crowd(sshd):
        refused = site.sync(grant)
    assert refused.failed
    assert "closes new connections at once" in refused["problem"]
    assert "MaxStartups" in refused["remedy"] and "artifact_transfer_at_once" in refused["remedy"]
    assert not site.sync(grant).failed


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_beginning_is_found_and_fetched_whole(site: Site, method: str) -> None:
    grant = site.grant()
    part = site.work / "weights" / f".{site.sync(None, check=True)['fingerprint']}.partial" / "big.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\0" * 1000)
    done = site.sync(grant, method=method)
    assert not done.failed, done.data
    site.assert_same()


@pytest.mark.parametrize("method", METHODS)
def test_only_the_damaged_file_travels(site: Site, relay: Relay, method: str) -> None:
    grant = site.grant()
    site.sync(grant)
    (site.work / "weights" / "current" / "nested" / "plain.json").write_text("{]\n")
    repaired = site.sync(grant, method=method, source={"port": relay.port})
    assert repaired.changed
    assert repaired["diff"]["before"]["found"] == ["changed: nested/plain.json"]
    assert repaired["files_to_fetch"] == 1
    site.assert_same()
    assert relay.received < 100_000


@pytest.mark.parametrize("method", METHODS)
def test_a_source_that_changed_behind_its_manifest_is_refused(site: Site, method: str) -> None:
    manifest = site.manifest()
    data = bytearray((site.source / "big.bin").read_bytes())
    data[BIG // 2] ^= 1
    (site.source / "big.bin").write_bytes(data)
    refused = site.sync(site.grant(), manifest, method=method)
    assert refused.failed
    assert "big.bin arrived from store-1 with another content" in refused["msg"]
    assert not os.path.lexists(site.work / "weights" / "current")


def test_another_host_key_is_refused_with_host_and_remedy(site: Site, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    refused = site.sync(site.grant(), source={"host_keys": [other]})
    assert refused.failed
    assert "store-1" in refused["problem"]
    assert "another host key" in refused["problem"]
    assert "artifact_transfer_address" in refused["remedy"]


def test_a_source_that_cannot_be_reached_is_named(site: Site, relay: Relay) -> None:
    relay.close()
    refused = site.sync(site.grant(), source={"port": relay.port})
    assert refused.failed
    assert "cannot reach store-1" in refused["problem"]
    assert str(relay.port) in refused["problem"]


def test_an_ended_or_expired_grant_is_worth_nothing(site: Site) -> None:
    grant = site.grant()
    assert site.end(grant)["removed"] == [grant["id"]]
    refused = site.sync(grant)
    assert "does not accept the key" in refused["msg"]
    expired = site.grant(lifetime=-60)
    assert "does not accept the key" in site.sync(expired)["msg"]
    fresh = site.grant()
    assert expired["id"] not in site.sshd.authorized_keys.read_text(), "expired lines go with the next grant"
    assert not site.sync(fresh).failed


def test_neither_key_nor_configuration_stays_on_the_disk(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(private))
    site.sync(site.grant())
    site.sync({**site.grant(), "host_keys": ["ssh-ed25519 AAAA"]})
    assert list(private.iterdir()) == []


def ask(site: Site, grant: dict[str, Any], argv: list[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Use the key for something else than the module would."""
    values = {key: grant[key] for key in ("user", "port", "host_keys", "private_key", "rsync", "root")}
    with session(Source.from_params({"name": "store-1", "address": "127.0.0.1", **values})) as config:
        line = [config if word == "CONFIG" else word.replace("CONFIG", config) for word in argv]
        return subprocess.run(line, input=stdin, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "argv",
    [
        ["ssh", "-F", "CONFIG", ALIAS, "cat /etc/passwd"],
        ["ssh", "-F", "CONFIG", ALIAS],
        ["ssh", "-F", "CONFIG", ALIAS, "ascend-fleet-tar; id"],
        ["rsync", "--rsh", "ssh -F CONFIG", f"{ALIAS}:/etc/passwd", "ARRIVED"],
        ["rsync", "--rsh", "ssh -F CONFIG", f"{ALIAS}:../secret.txt", "ARRIVED"],
        ["rsync", "-L", "--rsh", "ssh -F CONFIG", f"{ALIAS}:link.txt", "ARRIVED"],
        ["rsync", "-r", "--rsh", "ssh -F CONFIG", f"{ALIAS}:.", "ARRIVED"],
        ["rsync", "--remove-source-files", "--rsh", "ssh -F CONFIG", f"{ALIAS}:big.bin", "ARRIVED"],
        ["rsync", "--files-from", "LIST", "--rsh", "ssh -F CONFIG", f"{ALIAS}:.", "ARRIVED"],
        ["rsync", "--secluded-args", "--rsh", "ssh -F CONFIG", f"{ALIAS}:../secret.txt", "ARRIVED"],
        ["rsync", "--rsh", "ssh -F CONFIG", "LIST", f"{ALIAS}:written.txt"],
        ["sftp", "-F", "CONFIG", "-b", "/dev/null", ALIAS],
    ],
)
def test_the_key_is_good_for_nothing_else(site: Site, tmp_path: Path, argv: list[str]) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (site.source / "link.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "list").write_text("../secret.txt\n")
    places = {"ARRIVED": str(tmp_path / "arrived") + "/", "LIST": str(tmp_path / "list")}
    done = ask(site, site.grant(), [places.get(word, word) for word in argv])
    assert done.returncode != 0
    assert "ascend-fleet refused" in done.stderr or argv[0] == "sftp"
    assert "root:" not in done.stdout
    assert not list((tmp_path / "arrived").glob("*")) if (tmp_path / "arrived").exists() else True
    assert not (site.source / "written.txt").exists()
    assert (site.source / "big.bin").exists()


@pytest.mark.parametrize(
    "path", ["../secret.txt", "/etc/passwd", "link.txt", "nested", "absent", "nested/../../secret.txt"]
)
def test_the_tar_stream_stays_below_the_root(site: Site, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (site.source / "link.txt").symlink_to(tmp_path / "secret.txt")
    request = f'{{"files": [["{path}", 0]]}}'
    done = ask(site, site.grant(), ["ssh", "-F", "CONFIG", ALIAS, "ascend-fleet-tar"], request)
    assert done.returncode == 77
    assert done.stdout == ""
    assert "ascend-fleet refused" in done.stderr


def test_ports_are_not_forwarded(site: Site) -> None:
    grant = site.grant()
    done = ask(site, grant, ["ssh", "-F", "CONFIG", "-W", f"127.0.0.1:{site.sshd.port}", ALIAS])
    assert done.returncode != 0
    assert "SSH-2.0" not in done.stdout


@pytest.mark.parametrize("method", METHODS)
def test_a_hub_snapshot_is_links_into_its_own_blobs(site: Site, tmp_path: Path, method: str) -> None:
    model = tmp_path / "models--lab--tiny"
    (model / "blobs").mkdir(parents=True)
    (model / "blobs" / "ab12").write_text('{"model_type": "qwen2"}')
    site.source = model / "snapshots" / "0123abc"
    site.source.mkdir(parents=True)
    (site.source / "config.json").symlink_to("../../blobs/ab12")
    done = site.sync(site.grant(), method=method)
    assert not done.failed, done.data
    arrived = site.work / "weights" / "current" / "config.json"
    assert not arrived.is_symlink()
    site.assert_same()


def test_a_grant_of_a_user_without_the_file_makes_it_private(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "home" / ".ssh" / "authorized_keys"
    account = find_account(site.sshd.user, str(path))
    params = {
        **site.grant_params(),
        "authorized_keys": str(path),
        "state": "present",
        "root": str(site.source),
        "id": None,
    }
    manage_grant(Host(), {**params, "lifetime": 60}, False)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_uid == account.uid
    assert time.strftime("%Y") in path.read_text()


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
def test_a_strict_umask_keeps_the_login_user_from_nothing(site: Site) -> None:
    done = site.sync(site.grant())
    assert not done.failed, done.data
    weights = site.work / "weights"
    made = [site.programs, weights, weights / "current", weights / "current" / "refs"]
    assert {str(path): path.stat().st_mode & 0o777 for path in made} == dict.fromkeys(map(str, made), 0o755)


def test_a_program_directory_that_an_earlier_version_closed_is_opened(site: Site) -> None:
    site.programs.mkdir(mode=0o700)
    site.grant()
    assert site.programs.stat().st_mode & 0o777 == 0o755
    (site.programs / "of-somebody").write_text("")
    site.programs.chmod(0o700)
    site.grant()
    assert site.programs.stat().st_mode & 0o777 == 0o700, "what holds other things is not ours to open"


@pytest.mark.parametrize("method", METHODS)
def test_a_serving_program_that_cannot_be_started_is_named(site: Site, method: str) -> None:
    grant = site.grant()
    shutil.rmtree(site.programs)
    refused = site.sync(grant, method=method)
    assert refused.failed
    assert "store-1" in refused["problem"] and f"which is in {site.programs}:" in refused["problem"]
    assert f"enter {site.programs} and every" in refused["remedy"]
    assert site.sshd.user in refused["remedy"]
