# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing the lab up is a comparison: what is right stays, what differs is made again, labs of others stay."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lab import hosts, images, keys, network, staging, up
from lab.hosts import HOSTS, Host, Plan
from lab.shell import CLONE, LAB

SUBNET = IPv4Network("10.231.64.0/24")
NAMES = [host.name for host in HOSTS]


@dataclass
class Engine:
    """A Docker engine in memory: what runs, who made it, and what was asked of it."""

    running: dict[str, str] = field(default_factory=dict)
    clones: dict[str, str] = field(default_factory=dict)
    subnet: IPv4Network | None = None
    deaf: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)

    def create(self, host: Host, plan: Plan) -> None:
        self.done.append(f"create {host.name}")
        self.clones[host.container] = str(CLONE)
        self.running[host.name] = hosts.spec(host, plan)

    def remove(self, containers: list[str]) -> None:
        self.done += [f"remove {name.removeprefix(f'{LAB}-')}" for name in containers]
        for name in containers:
            self.clones.pop(name, None)
            self.running.pop(name.removeprefix(f"{LAB}-"), None)

    def network(self) -> IPv4Network:
        self.subnet = SUBNET
        return SUBNET

    def forget_network(self, lab: str) -> None:
        self.done.append(f"forget {lab}")

    def answers(self, address: str) -> bool:
        return not any(address.endswith(f".{host.number}") for host in HOSTS if host.name in self.deaf)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The lab on an engine in memory, its state in a directory of the test; keys are real."""
    made = Engine()
    for name, value in {"DIRECTORY": "ssh", "LOGIN_KEY": "ssh/id_ed25519", "KNOWN_HOSTS": "ssh/known_hosts"}.items():
        monkeypatch.setattr(keys, name, tmp_path / value)
    monkeypatch.setattr(up, "ADDRESSES", tmp_path / "address")
    monkeypatch.setattr(up, "SITE_PACKAGES", tmp_path)
    monkeypatch.setattr(up, "need_engine", lambda: None)
    monkeypatch.setattr(images, "ensure", lambda *names: {name: f"lab/{name}:1" for name in names})
    monkeypatch.setattr(staging, "ensure", lambda: [staging.Piece("model", "1", lambda target: None)])
    monkeypatch.setattr(staging, "deliver", lambda container, content: made.done.append(f"deliver {container}"))
    monkeypatch.setattr(network, "current_subnet", lambda: made.subnet)
    monkeypatch.setattr(network, "ensure", made.network)
    monkeypatch.setattr(network, "remove", made.forget_network)
    for name in ("create", "remove"):
        monkeypatch.setattr(hosts, name, getattr(made, name))
    monkeypatch.setattr(hosts, "start", lambda stale, plan: made.done.append(f"start {len(stale)}"))
    monkeypatch.setattr(hosts, "running_specs", lambda: dict(made.running))
    monkeypatch.setattr(hosts, "all_containers", lambda: dict(made.clones))
    monkeypatch.setattr(hosts, "port_answers", made.answers)
    return made


def test_a_first_start_makes_everything_and_a_second_nothing(engine: Engine) -> None:
    assert up.up() is True
    assert engine.done == [
        "create staging-1",
        f"deliver {LAB}-staging-1",
        "create npu-1",
        "create npu-2",
        "start 3",
    ]
    assert sorted(path.name for path in up.ADDRESSES.iterdir()) == sorted(NAMES)
    engine.done.clear()
    assert up.up() is False
    assert engine.done == []


def test_files_that_ssh_reads_come_back_without_touching_the_hosts(engine: Engine) -> None:
    up.up()
    engine.done.clear()
    keys.KNOWN_HOSTS.unlink()
    (up.ADDRESSES / "npu-1").write_text("192.0.2.1\n", encoding="utf-8")
    up.up()
    assert engine.done == []
    assert (up.ADDRESSES / "npu-1").read_text(encoding="utf-8") == "10.231.64.11\n"
    assert len(keys.KNOWN_HOSTS.read_text(encoding="utf-8").splitlines()) == 3


def test_only_what_differs_is_made_again(engine: Engine) -> None:
    up.up()
    engine.done.clear()
    engine.running["npu-2"] = "an older spec"
    assert up.up() is True
    assert engine.done == ["remove npu-2", "create npu-2", "start 1"]


def test_a_host_that_does_not_answer_is_made_again(engine: Engine) -> None:
    up.up()
    engine.done.clear()
    engine.deaf.add("npu-1")
    up.up()
    assert engine.done == ["remove npu-1", "create npu-1", "start 1"]


def test_the_lab_of_a_clone_that_is_gone_is_removed_and_one_that_is_there_stays(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there" / "lab").mkdir(parents=True)
    gone, there = str(tmp_path / "gone"), str(tmp_path / "there")
    engine.clones = {"ascend-lab-aaaaaa-npu-1": gone, "ascend-lab-bbbbbb-npu-1": there}
    up.up()
    assert engine.done[:2] == ["remove ascend-lab-aaaaaa-npu-1", "forget ascend-lab-aaaaaa"]
    assert "ascend-lab-bbbbbb-npu-1" in engine.clones
    assert f"removing the lab of {gone}, which is gone" in capsys.readouterr().out


def test_a_clone_that_this_user_may_not_look_into_is_not_gone(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = tmp_path / "others" / "clone"

    def stat(path: Path, *args: object, **words: object) -> object:
        if path == others / "lab":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *args, **words)  # type: ignore[arg-type]

    plain = Path.stat
    monkeypatch.setattr(Path, "stat", stat)
    engine.clones = {"ascend-lab-cccccc-npu-1": str(others)}
    up.up()
    assert "ascend-lab-cccccc-npu-1" in engine.clones
