# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's hosts should be: networks, files, container arguments, and the spec that decides about them."""

from __future__ import annotations

import io
import subprocess
import tarfile
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lab import hosts, keys, network
from lab.hosts import HOSTS, Plan
from lab.shell import LAB, LabError

SUBNET = IPv4Network("10.231.64.0/24")
STAGING, NPU_1, NPU_2 = HOSTS


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan whose keys are real ones in a directory of the test."""
    monkeypatch.setattr(keys, "DIRECTORY", tmp_path / "ssh")
    monkeypatch.setattr(keys, "LOGIN_KEY", tmp_path / "ssh" / "id_ed25519")
    keys.ensure([host.name for host in HOSTS])
    return Plan(SUBNET, {"server": "lab/server:1", "staging": "lab/staging:1"}, {"staging-1": "model-1"})


def test_the_subnets_tried_overlap_nothing_of_the_machine() -> None:
    taken = [IPv4Network("10.231.0.0/16"), IPv4Network("10.232.64.7/32"), IPv4Network("192.0.2.0/24")]
    free = network.free_subnets(taken)
    assert free[0] == IPv4Network("10.233.64.0/24")
    assert len(free) == len(network.CANDIDATES) - 2


def test_no_free_subnet_is_an_error_that_says_what_was_tried() -> None:
    with pytest.raises(LabError, match=r"10\.231\.64\.0/24 to 10\.250\.64\.0/24"):
        network.free_subnets([IPv4Network("10.0.0.0/8")])


def test_a_subnet_that_somebody_took_meanwhile_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def create(argv: list[str]) -> subprocess.CompletedProcess[bytes]:
        if argv[2] == "inspect":
            return subprocess.CompletedProcess(argv, 1, b"", b"no such network")
        asked.append(argv[argv.index("--subnet") + 1])
        return subprocess.CompletedProcess(argv, int(len(asked) == 1), b"", b"overlaps")

    monkeypatch.setattr(network, "attempt", create)
    monkeypatch.setattr(network, "machine_networks", lambda: [IPv4Network("10.231.0.0/16")])
    assert network.ensure() == IPv4Network("10.233.64.0/24")
    assert asked == ["10.232.64.0/24", "10.233.64.0/24"]


def test_every_host_and_npu_has_an_address_of_its_own(plan: Plan) -> None:
    addresses = list(plan.addresses().values())
    for host in HOSTS:
        text = hosts.hccn_conf(host, SUBNET)
        addresses += [line.split("=")[1] for line in text.splitlines() if line.startswith("address_")]
    assert len(addresses) == 3 + 8
    assert len(set(addresses)) == len(addresses)
    assert all(IPv4Network(address).subnet_of(SUBNET) for address in addresses)


def test_servers_get_an_engine_of_their_own_and_staging_does_not(plan: Plan) -> None:
    server, staging = (" ".join(hosts.create_arguments(host, plan)) for host in (NPU_1, STAGING))
    assert "--cap-add ALL --cap-drop SYS_RESOURCE" in server
    assert "--privileged" not in server
    assert f"{LAB}-npu-1-docker:/var/lib/docker" in server
    assert ":/opt/lab/site-packages:ro" in server
    assert "--cap-add ALL" not in staging
    assert "--volume" not in staging


def test_hosts_know_the_others_by_name(plan: Plan) -> None:
    arguments = hosts.create_arguments(NPU_1, plan)
    others = [arguments[at + 1] for at, word in enumerate(arguments) if word == "--add-host"]
    assert others == [f"staging-1:{plan.address(STAGING)}", f"npu-2:{plan.address(NPU_2)}"]


def test_only_the_controllers_key_opens_a_host(plan: Plan) -> None:
    for host in HOSTS:
        placed = hosts.files(host, plan)
        for home, owner in hosts.LOGINS.items():
            key = keys.public(keys.LOGIN_KEY) + "\n"
            assert placed[f"{home}/.ssh/authorized_keys"] == hosts.Placed(key, 0o600, owner)
        assert not [path for path in placed if "/.ssh/id_" in path]


def test_the_known_host_keys_are_those_put_on_the_hosts(plan: Plan) -> None:
    lines = keys.known_hosts_text(plan.addresses()).splitlines()
    for host, line in zip(sorted(HOSTS, key=lambda host: host.name), lines, strict=True):
        names, kind, key = line.split()
        assert names == f"{host.name},{plan.address(host)}"
        assert hosts.files(host, plan)["etc/ssh/ssh_host_ed25519_key.pub"].text.startswith(f"{kind} {key} ")


def test_keys_are_made_once(plan: Plan) -> None:
    before = keys.public(keys.LOGIN_KEY)
    keys.ensure([host.name for host in HOSTS])
    assert keys.public(keys.LOGIN_KEY) == before
    assert keys.LOGIN_KEY.stat().st_mode & 0o077 == 0


def test_the_spec_changes_with_everything_that_decides_a_host(plan: Plan) -> None:
    base = hosts.spec(STAGING, plan)
    assert hosts.spec(STAGING, plan) == base
    others = [
        replace(plan, subnet=IPv4Network("10.232.64.0/24")),
        replace(plan, images={**plan.images, "staging": "lab/staging:2"}),
        replace(plan, content={"staging-1": "model-2"}),
    ]
    assert len({base, *(hosts.spec(STAGING, other) for other in others)}) == 4
    keys.host_key("staging-1").unlink()
    keys.ensure(["staging-1"])
    assert hosts.spec(STAGING, plan) != base


def test_new_staging_content_leaves_the_servers_alone(plan: Plan) -> None:
    other = replace(plan, content={"staging-1": "model-2"})
    assert hosts.spec(NPU_1, other) == hosts.spec(NPU_1, plan)


def test_files_travel_with_owner_and_mode() -> None:
    data = hosts.pack({"home/.ssh": hosts.Placed(None, 0o700, 7), "etc/secret": hosts.Placed("text\n", 0o600)})
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        entries = {entry.name: entry for entry in archive}
        assert entries["home/.ssh"].isdir()
        assert (entries["home/.ssh"].mode, entries["home/.ssh"].uid) == (0o700, 7)
        assert (entries["etc/secret"].mode, entries["etc/secret"].uid) == (0o600, 0)
        stored = archive.extractfile("etc/secret")
        assert stored is not None
        assert stored.read() == b"text\n"
