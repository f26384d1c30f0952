# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing the lab up is a comparison: what is right stays, what differs is made again, another clone's lab goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lab import hosts, images, keys, network, staging, up
from lab.hosts import HOSTS, Host, Plan
from lab.shell import CLONE

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
        self.done += [f"remove {name.removeprefix('ascend-lab-')}" for name in containers]
        for name in containers:
            self.clones.pop(name, None)
            self.running.pop(name.removeprefix("ascend-lab-"), None)

    def network(self) -> IPv4Network:
        self.subnet = SUBNET
        return SUBNET

    def forget_network(self) -> None:
        self.subnet = None

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
    monkeypatch.setattr(up, "run", lambda argv: "")
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
        "deliver ascend-lab-staging-1",
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


def test_the_lab_of_another_clone_is_replaced_after_saying_so(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    up.up()
    engine.clones = dict.fromkeys(engine.clones, "/home/somebody/else")
    engine.running = dict.fromkeys(engine.running, "their spec")
    engine.done.clear()
    up.up()
    assert engine.done[:3] == ["remove staging-1", "remove npu-1", "remove npu-2"]
    assert [word for word in engine.done if word.startswith("create")] == [f"create {name}" for name in NAMES]
    assert "replacing the lab that /home/somebody/else left running" in capsys.readouterr().out
