# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a run in their order, as the inventory declares them."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Hashable, List, Mapping, Sequence, Tuple

from .plan_findings import Findings, as_int

INTERFACE = re.compile(r"[^\s/=,^\[\]{}]{1,15}$")  # as Linux allows, without the signs that HCCL gives a meaning
LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")


@dataclass(frozen=True)
class PlanHost:
    """One server: inventory name, address for the other servers, physical NPU ids, interface that carries the address.

    `hbm_mb` is the memory of its smallest NPU, as npu-smi reports it.
    """

    name: str
    address: str
    npus: Tuple[int, ...]
    interface: str = ""
    hbm_mb: int = 0

    @property
    def has_ip(self) -> bool:
        """Whether the address is one, and not a name that has to be looked up."""
        return _ip(self.address) is not None

    @property
    def is_loopback(self) -> bool:
        """Whether the address means another machine on each machine."""
        found = _ip(self.address)
        return self.address in LOOPBACK_NAMES or (found is not None and (found.is_loopback or found.is_unspecified))


def _ip(text: str) -> Any:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def read_hosts(entries: Sequence[Mapping[str, Any]], hbm_mb: int, findings: Findings) -> List[PlanHost]:
    """Read [{name, address, npus, interface, hbm_mb}]; what is wrong with them is among the findings.

    A host that does not say how much memory its NPUs have gets `hbm_mb`.
    """
    if not entries:
        findings.refuse("hosts-none", "There is no host to train on.", remedy="List servers in the group training.")
    hosts = [_host(entry, hbm_mb, findings) for entry in entries]
    _refuse_twice("Host", [host.name for host in hosts], findings)
    _refuse_twice("Address", [host.address for host in hosts if host.address], findings)
    _refuse_unequal(hosts, findings)
    for host in hosts:
        if len(hosts) > 1 and host.is_loopback:
            findings.refuse(
                "host-loopback",
                f"Host {host.name} has address {host.address}, which on every other host means that host itself.",
                remedy="Give ascend_address, an address that the other hosts reach.",
            )
    return hosts


def _host(entry: Mapping[str, Any], hbm_mb: int, findings: Findings) -> PlanHost:
    name, given = str(entry.get("name", "")), entry.get("npus") or []
    address = str(entry.get("address") or "")
    npus = [as_int(npu) for npu in (given if isinstance(given, (list, tuple)) else [given])]
    good = tuple(npu for npu in npus if npu is not None and npu >= 0)
    if not npus:
        findings.refuse("host-npus", f"Host {name} declares no NPUs.", remedy="Set ascend_npus to physical ids.")
    elif len(good) != len(npus):
        findings.refuse(
            "host-npus",
            f"Host {name} declares NPUs {given!r}.",
            remedy="Set ascend_npus to a list of physical ids, 0 and up, such as [4, 5, 6, 7].",
        )
    if not address:
        findings.refuse("host-address", f"Host {name} has no address.", remedy="Set ansible_host or ascend_address.")
    _refuse_twice(f"Host {name}: NPU", good, findings)
    memory = as_int(entry.get("hbm_mb") or hbm_mb)
    if memory is None or memory <= 0:
        findings.refuse(
            "host-memory",
            f"The NPUs of host {name} have {entry.get('hbm_mb') or hbm_mb!r} MB of memory.",
            remedy="Set ascend_hbm_mb to what npu-smi shows as its total, for example 65536.",
        )
    return PlanHost(name, address, tuple(sorted(good)), _interface(name, entry.get("interface"), findings), memory or 0)


def _interface(host: str, given: Any, findings: Findings) -> str:
    """Return the plain name of an interface, a bond's and a VLAN's included; gloo and HCCL would not find anything else."""
    text = str(given or "")
    if text and not INTERFACE.match(text):
        plain = text.strip().lstrip("=")
        findings.refuse(
            "host-interface",
            f"Interface {given!r} of host {host} is not the name of one.",
            plain if INTERFACE.match(plain) else "",
            "Set ascend_interface to one name as `ip link` shows it; the plan writes HCCL's equals sign itself.",
        )
    return text


def _refuse_twice(what: str, values: Sequence[Hashable], findings: Findings) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            findings.refuse("duplicate", f"{what} {value} is listed {count} times.", remedy="List it once.")


def _refuse_unequal(hosts: Sequence[PlanHost], findings: Findings) -> None:
    """torchrun starts the same number of processes on every host; Megatron's rank order relies on it."""
    counts = {host.name: len(host.npus) for host in hosts if host.npus}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        findings.refuse(
            "hosts-unequal",
            f"The hosts declare different numbers of NPUs: {listed}.",
            f"{min(counts.values())} on each",
            "Set ascend_npus to equally many on every host of training_hosts.",
        )
