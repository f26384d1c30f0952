# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter plan_measured: what was found on the hosts of a run, laid over what the inventory declares about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

Host = dict[str, Any]


def plan_measured(hosts: Sequence[Host], hostvars: Mapping[str, Any], npus: str, network: str) -> list[Host]:
    """Return the hosts with the memory of their NPUs (`hbm_mb`) and the interface of their address as they were found.

    `npus` and `network` name the variables that hold a host's results of the driver check (its `chips`) and of setup. What was not
    found stays declared.
    """
    if isinstance(hosts, (str, Mapping)) or not isinstance(hosts, Sequence):
        raise AnsibleFilterError(f"plan_measured needs the hosts as plan_hosts returns them, not {hosts!r}")
    return [_measured(host, hostvars.get(host["name"], {}), npus, network) for host in hosts]


def _measured(host: Host, variables: Mapping[str, Any], npus: str, network: str) -> Host:
    found = {
        "hbm_mb": _memory(host, variables.get(npus) or {}),
        "interface": _interface(host["address"], variables.get(network) or {}, host.get("interface")),
    }
    return {**host, **{key: value for key, value in found.items() if value}}


def _memory(host: Host, result: Mapping[str, Any]) -> int | None:
    """Return the MB of the smallest NPU that the run uses on this host."""
    wanted = set(map(int, host.get("npus", [])))
    totals = [chip.get("hbm_total_mb") for chip in result.get("chips", []) if chip.get("phy_id") in wanted]
    return min((total for total in totals if total), default=None)


def _interface(address: str, result: Mapping[str, Any], declared: str | None) -> str | None:
    """Return the interface that carries the address: a plain one, a bond or a VLAN, under its own name.

    One that the inventory declares and that carries the address too is kept.
    """
    facts = result.get("ansible_facts") or {}
    names = sorted(
        fact["device"] for fact in facts.values() if isinstance(fact, Mapping) and address in _addresses(fact)
    )
    return declared if declared in names else next(iter(names), None)


def _addresses(fact: Mapping[str, Any]) -> set[str]:
    if "device" not in fact:
        return set()
    four = fact.get("ipv4") or {}
    several = [four] if isinstance(four, Mapping) else list(four)
    several += [*fact.get("ipv4_secondaries", []), *fact.get("ipv6", [])]
    return {str(entry["address"]) for entry in several if "address" in entry}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {"plan_measured": plan_measured}
