# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for the driver check: the findings of all hosts as one list, worst first, and who is left out because of them.

Comparing the hosts with each other names the odd one out ("npu-17: driver 24.1.rc3, the other 63: 25.0.rc1") instead of 63
differences.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

Finding = dict[str, Any]
Results = Mapping[str, Mapping[str, Any]]

SEVERITIES = ("error", "warning", "info")
RESULT = "driver_check_server"  # the variable with a host's result of npu_server_info
FEW = 2  # hosts that are named in a comparison; more are counted

_SAME = "Bring the hosts to one version; the run may work, but a difference is the first thing to rule out."
_SWITCH = "Make the TLS switch equal on every NPU of the fleet: `hccn_tool -i N -tls -s enable 0` (or 1)."
_FRAMES = "Set one MTU on every host and on the switches between them; large packets get lost where it is smaller."
_IMAGE = "An image serves one architecture only: bring the image for this one, or take the host out of the run."
_CABLE = "Check cable, module and switch port of the slower one: `ethtool <interface>`."
_CHIPS = (
    "Train on chips of one kind: the slowest and the smallest decide for all, and the memory plan is made for one size."
)


def driver_findings(
    hosts: Sequence[str], hostvars: Mapping[str, Any], reach: Sequence[Finding] = (), clock_tolerance: float = 30
) -> list[Finding]:
    """Return the findings of all hosts, worst first: {host, code, severity, chip, message, remedy}.

    A host without a result did not answer, which is a finding too. `reach` are findings of the reachability check;
    `clock_tolerance` in seconds.
    """
    if isinstance(hosts, str) or not isinstance(hosts, Sequence):
        raise AnsibleFilterError(f"driver_findings needs a list of inventory names, not {hosts!r}")
    seen = {host: _result(hostvars, host) for host in hosts}
    found = [_silent(host) for host in hosts if not seen[host]]
    for host in hosts:
        # The fleet's comparison of the switch knows better which NPU is the odd one than its own host does.
        own = [item for item in seen[host].get("findings", []) if item["code"] != "tls.mismatch"]
        found += [{"host": host, **finding} for finding in own]
    answered = {host: result for host, result in seen.items() if result}
    found += [*_odd_hosts(answered), *_odd_chips(answered), *_clocks(answered, clock_tolerance)]
    found += [*_shared_addresses(answered), *reach]
    return sorted(found, key=lambda item: (SEVERITIES.index(item["severity"]), hosts.index(item["host"])))


def _result(hostvars: Mapping[str, Any], host: str) -> Mapping[str, Any]:
    """Return a host's registered result; empty where the host did not come so far or its module failed."""
    result = hostvars[host].get(RESULT) if host in hostvars else None
    return result if isinstance(result, Mapping) and "findings" in result else {}


def _silent(host: str) -> Finding:
    message = "the host could not be checked (see its own message above)."
    remedy = "Check address, login and Python of the host, then run the check again."
    return _finding(host, "host.no_answer", "error", message, remedy)


def _finding(host: str, code: str, severity: str, message: str, remedy: str, chip: int | None = None) -> Finding:
    return {"host": host, "code": code, "severity": severity, "chip": chip, "message": message, "remedy": remedy}


# Hosts with each other


def _odd_hosts(seen: Results) -> list[Finding]:
    """Compare what each host has once."""
    found = []
    for code, what, read, remedy in _COMPARED:
        found += _compare(code, what, {host: read(result) for host, result in seen.items()}, remedy)
    return found


def driver_version(result: Mapping[str, Any]) -> str | None:
    """Return the version of the running driver, or where none answers of the installed one."""
    npus = result["npus"]
    version: str | None = npus["tool"]["driver_version"] or npus["versions"]["driver"]["version"]
    return version


def firmware_version(result: Mapping[str, Any]) -> str | None:
    """Return the version of the installed firmware."""
    version: str | None = result["npus"]["versions"]["firmware"]["version"]
    return version


def _interface(result: Mapping[str, Any], key: str) -> int | None:
    interface = result["server"]["interface"]
    return interface[key] if interface else None


_COMPARED: tuple[tuple[str, str, Callable[[Mapping[str, Any]], Hashable | None], str], ...] = (
    ("driver", "driver", driver_version, _SAME),
    ("firmware", "firmware", firmware_version, _SAME),
    ("kernel", "kernel", lambda result: result["server"]["kernel"] or None, _SAME),
    ("architecture", "architecture", lambda result: result["server"]["architecture"], _IMAGE),
    ("nic_mtu", "MTU of the host's interface", lambda result: _interface(result, "mtu"), _FRAMES),
    ("nic_speed", "Mbit/s of the host's interface", lambda result: _interface(result, "speed_mbps"), _CABLE),
)


def _compare(code: str, what: str, values: Mapping[str, Hashable | None], remedy: str) -> list[Finding]:
    """Name the hosts whose value is not the most frequent one (of equally frequent ones, the first host's)."""
    groups = _groups(values)
    if len(groups) < 2:
        return []
    usual = max(groups, key=lambda value: len(groups[value]))
    return [
        _finding(
            host,
            f"fleet.{code}",
            "warning",
            f"{what} {value}, {_others(groups[usual], len(values) - 1)}: {usual}.",
            remedy,
        )
        for value, hosts in groups.items()
        for host in hosts
        if value != usual
    ]


def _groups(values: Mapping[Any, Hashable | None]) -> dict[Hashable, list[Any]]:
    groups: dict[Hashable, list[Any]] = {}
    for owner, value in values.items():
        if value is not None:
            groups.setdefault(value, []).append(owner)
    return groups


def _others(rest: Sequence[str], others: int) -> str:
    """Word who has the usual value: by name where they are few, "the other 63" where that is all of them."""
    if len(rest) <= FEW:
        return ", ".join(rest)
    return f"the other {len(rest)}" if len(rest) == others else f"{len(rest)} of the other {others}"


# Chips with each other, over all hosts


def _odd_chips(seen: Results) -> list[Finding]:
    """Compare what each NPU has: its kind, its memory, its port's TLS switch and MTU."""
    chips = {host: result["chips"] for host, result in seen.items()}
    ports = {host: result["network"]["ports"] for host, result in seen.items()}
    switch = {True: "on", False: "off", None: None}
    return [
        *_compare_chips("chips", "chip", "warning", _by_chip(chips, lambda chip: chip["name"]), _CHIPS),
        *_compare_chips("hbm", "HBM in MB", "warning", _by_chip(chips, lambda chip: chip["hbm_total_mb"]), _CHIPS),
        *_compare_chips("tls", "TLS", "error", _by_chip(ports, lambda port: switch[port["tls_enabled"]]), _SWITCH),
        *_compare_chips("port_mtu", "port MTU", "warning", _by_chip(ports, lambda port: port["mtu"]), _FRAMES),
    ]


def _by_chip(
    rows: Mapping[str, Sequence[Mapping[str, Any]]], read: Callable[[Mapping[str, Any]], Hashable | None]
) -> dict[str, dict[int, Hashable]]:
    """Return host -> physical id -> value, without what is not known."""
    known = {host: {row["phy_id"]: read(row) for row in own if row["phy_id"] is not None} for host, own in rows.items()}
    return {
        host: {chip: value for chip, value in own.items() if value is not None} for host, own in known.items() if own
    }


def _compare_chips(
    code: str, what: str, severity: str, values: Mapping[str, Mapping[int, Hashable]], remedy: str
) -> list[Finding]:
    """Name the odd NPU, or the host where all of its NPUs are alike and differ from the other hosts."""
    groups = _groups({(host, chip): value for host, own in values.items() for chip, value in own.items()})
    if len(groups) < 2:
        return []
    usual = max(groups, key=lambda value: len(groups[value]))
    like_most = [host for host, own in values.items() if own and set(own.values()) == {usual}]
    chips = sum(len(own) for own in values.values())
    found = []
    for host, own in values.items():
        odd = {chip: value for chip, value in own.items() if value != usual}
        if odd and len(odd) == len(own) and len(set(odd.values())) == 1 and like_most:
            message = f"{what} {next(iter(odd.values()))}, {_others(like_most, len(values) - 1)}: {usual}."
            found.append(_finding(host, f"fleet.{code}", severity, message, remedy))
            continue
        for chip, value in odd.items():
            message = f"NPU {chip}: {what} {value}, {_count(len(groups[usual]), chips - 1)}: {usual}."
            found.append(_finding(host, f"fleet.{code}", severity, message, remedy, chip))
    return found


def _count(usual: int, others: int) -> str:
    return f"the other {usual}" if usual == others else f"{usual} of the other {others}"


def _clocks(seen: Results, tolerance: float) -> list[Finding]:
    """Name the hosts whose clock is far from the middle one. Sending a module takes some seconds itself, hence the tolerance."""
    offsets = {host: result["server"]["clock_offset_s"] for host, result in seen.items()}
    known = {host: offset for host, offset in offsets.items() if offset is not None}
    if not known:
        return []
    # The controller's own clock is the reference for two hosts, where there is no middle one.
    middle = statistics.median(known.values()) if len(known) > 2 else 0.0
    remedy = (
        "Set the clock and keep it with chrony or ntpd: logs, certificates and time-outs across hosts depend on it."
    )
    return [
        _finding(
            host,
            "fleet.clock",
            "warning",
            f"clock {abs(offset - middle):.0f} s {'ahead of' if offset > middle else 'behind'} "
            f"{f'the other {len(known) - 1}' if len(known) > 2 else 'the controller'}.",
            remedy,
        )
        for host, offset in known.items()
        if abs(offset - middle) > tolerance
    ]


def _shared_addresses(seen: Results) -> list[Finding]:
    """Name NPUs of different hosts that have the same address."""
    owners: dict[str, tuple[str, int]] = {}
    found = []
    for host, result in seen.items():
        for port in result["network"]["ports"]:
            first = owners.setdefault(port["address"], (host, port["phy_id"])) if port["address"] else None
            if first and first[0] != host:
                message = f"NPU {port['phy_id']}: address {port['address']}, as NPU {first[1]} of {first[0]}."
                remedy = "Give each NPU of the fleet an address of its own."
                found.append(_finding(host, "fleet.address", "error", message, remedy, port["phy_id"]))
    return found


# What follows


def driver_looked(variables: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Say whether this run has looked at the host already, with these parameters of npu_server_info."""
    result = variables.get(RESULT)
    if not isinstance(result, Mapping) or "findings" not in result:
        return False
    known = result.get("asked", {})
    return all(known.get(key) == value for key, value in asked.items())


def driver_excluded(
    findings: Sequence[Finding], hosts: Sequence[str], hostvars: Mapping[str, Any], policy: str
) -> list[str]:
    """Return the hosts that are left out of the run under the policy `exclude`: those with an error.

    None while a run that was started is not finished (its hosts must not change), or when no host would be left.
    """
    if policy != "exclude" or unfinished(hosts, hostvars):
        return []
    bad = {item["host"] for item in findings if item["severity"] == "error"}
    out = [host for host in hosts if host in bad]
    return out if len(out) < len(hosts) else []


def unfinished(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return host -> fingerprints of its unfinished runs."""
    runs = {host: list(_result(hostvars, host).get("unfinished_runs", [])) for host in hosts}
    return {host: names for host, names in runs.items() if names}


def driver_stopped(
    findings: Sequence[Finding], hosts: Sequence[str], hostvars: Mapping[str, Any], policy: str
) -> dict[str, str]:
    """Return host -> why it cannot go on, with remedies; empty under the policy `warn`."""
    if policy == "warn":
        return {}
    excluded = driver_excluded(findings, hosts, hostvars, policy)
    running = unfinished(hosts, hostvars) if policy == "exclude" else {}
    kept = ""
    if running:
        who = "; ".join(f"{', '.join(names)} on {host}" for host, names in running.items())
        kept = f"No host is left out of a run that has started ({who}): finish or stop it first. "
    reasons: dict[str, list[str]] = {}
    for item in findings:
        if item["severity"] == "error":
            reasons.setdefault(item["host"], []).append(f"{item['message']} Remedy: {item['remedy']}")
    said = {host: ("Left out of this run. " if host in excluded else kept) for host in reasons}
    return {host: said[host] + " ".join(texts) for host, texts in reasons.items()}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {
            "driver_findings": driver_findings,
            "driver_looked": driver_looked,
            "driver_excluded": driver_excluded,
            "driver_stopped": driver_stopped,
        }
