# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: one bridge without a route out, on a subnet that this machine uses for nothing else."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from lab.shell import LAB, LabError, attempt, run

CANDIDATES = tuple(IPv4Network(f"10.{second}.64.0/24") for second in range(231, 251))


def free_subnets(taken: Iterable[IPv4Network]) -> list[IPv4Network]:
    """Return the candidates that overlap nothing taken; LabError when there is none."""
    used = list(taken)
    free = [candidate for candidate in CANDIDATES if not any(candidate.overlaps(network) for network in used)]
    if not free:
        raise LabError(
            f"no free subnet for the lab: {CANDIDATES[0]} to {CANDIDATES[-1]} all overlap routes of this machine"
        )
    return free


def machine_networks() -> list[IPv4Network]:
    """Networks that this machine routes to (the default route apart), its addresses and its name servers."""
    routes = json.loads(run(["ip", "-4", "-json", "route", "show", "table", "all"]) or "[]")
    texts = [route["dst"] for route in routes if route["dst"] != "default"]
    resolv = Path("/etc/resolv.conf")
    if resolv.is_file():
        words = [line.split() for line in resolv.read_text(encoding="utf-8").splitlines()]
        texts += [line[1] for line in words if len(line) > 1 and line[0] == "nameserver" and ":" not in line[1]]
    return [ipaddress.IPv4Network(text, strict=False) for text in texts]


def current_subnet() -> IPv4Network | None:
    """The subnet of the lab's network, None when there is no such network."""
    done = attempt(["docker", "network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", LAB])
    return IPv4Network(done.stdout.decode().strip()) if done.returncode == 0 else None


def ensure() -> IPv4Network:
    """Create the network if needed; return its subnet."""
    subnet = current_subnet()
    return subnet if subnet is not None else _create(free_subnets(machine_networks()))


def _create(free: Sequence[IPv4Network]) -> IPv4Network:
    """Create the network on the first subnet that nobody took meanwhile: another user's lab may start at this moment."""
    bridge = LAB.removeprefix("ascend-")  # the kernel takes 15 characters
    options = ["--internal", "--label", "ascend-lab=network", "--opt", f"com.docker.network.bridge.name={bridge}"]
    for subnet in free[:-1]:
        if attempt(["docker", "network", "create", *options, "--subnet", str(subnet), LAB]).returncode == 0:
            return subnet
    run(["docker", "network", "create", *options, "--subnet", str(free[-1]), LAB])
    return free[-1]


def remove(lab: str = LAB) -> None:
    """Remove a lab's network if it is there."""
    if attempt(["docker", "network", "inspect", lab]).returncode == 0:
        run(["docker", "network", "rm", lab])


def address(subnet: IPv4Network, number: int) -> IPv4Address:
    """The subnet's address with this number; 1 is the bridge on this machine."""
    return subnet.network_address + number
