# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: one bridge without a route out, on a subnet that this machine uses for nothing else."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from lab.shell import LabError, attempt, run

NAME = "ascend-lab"
CANDIDATES = tuple(IPv4Network(f"10.{second}.64.0/24") for second in range(231, 251))


def choose_subnet(taken: Iterable[IPv4Network]) -> IPv4Network:
    """Return the first candidate that overlaps nothing taken."""
    used = list(taken)
    for candidate in CANDIDATES:
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    raise LabError(
        f"no free subnet for the lab: {CANDIDATES[0]} to {CANDIDATES[-1]} all overlap routes of this machine"
    )


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
    done = attempt(["docker", "network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", NAME])
    return IPv4Network(done.stdout.decode().strip()) if done.returncode == 0 else None


def ensure() -> IPv4Network:
    """Create the network if needed; return its subnet."""
    subnet = current_subnet()
    if subnet is None:
        subnet = choose_subnet(machine_networks())
        options = ["--internal", "--label", "ascend-lab=network", "--subnet", str(subnet)]
        run(["docker", "network", "create", *options, "--opt", "com.docker.network.bridge.name=ascend-lab0", NAME])
    return subnet


def remove() -> None:
    """Remove the network if it is there."""
    if current_subnet() is not None:
        run(["docker", "network", "rm", NAME])


def address(subnet: IPv4Network, number: int) -> IPv4Address:
    """The subnet's address with this number; 1 is the bridge on this machine."""
    return subnet.network_address + number
