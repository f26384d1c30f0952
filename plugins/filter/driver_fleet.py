# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for the driver check: the findings of all hosts as one list, worst first, and as lines for a person.

Comparing the hosts with each other names the odd one out ("npu-17: driver 24.1.rc3, the other 63: 25.0.rc1") instead of 63
differences.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

Finding = dict[str, Any]
Results = Mapping[str, Mapping[str, Any]]

SEVERITIES = ("error", "warning", "info")
FEW = 4  # hosts that are named; more are counted


def driver_findings(hosts: Sequence[str], hostvars: Mapping[str, Any], npus: str, ports: str) -> list[Finding]:
    """Return the findings of all hosts, worst first: {host, code, severity, chip, message, remedy}.

    `npus` and `ports` name the variables that hold each host's result of npu_info and hccn_info. A host without a result did not
    answer, which is a finding too.
    """
    if isinstance(hosts, str) or not isinstance(hosts, Sequence):
        raise AnsibleFilterError(f"driver_findings needs a list of inventory names, not {hosts!r}")
    seen = {host: _result(hostvars, host, npus) for host in hosts}
    nets = {host: _result(hostvars, host, ports) for host in hosts}
    found = [_silent(host) for host in hosts if not seen[host]]
    for host in hosts:
        own = seen[host].get("findings", [])
        absent = {finding["chip"] for finding in own if finding["code"] == "chip.missing"}
        # What is wrong with the network of a chip that is not there has been said by then.
        network = [finding for finding in nets[host].get("findings", []) if finding["chip"] not in absent]
        found += [{"host": host, **finding} for finding in [*own, *network]]
    found += _odd_ones(seen, nets)
    return sorted(found, key=lambda item: (SEVERITIES.index(item["severity"]), hosts.index(item["host"])))


def _result(hostvars: Mapping[str, Any], host: str, name: str) -> Mapping[str, Any]:
    """Return a host's registered result; empty where the host did not come so far or its module failed."""
    result = hostvars[host].get(name) if host in hostvars else None
    return result if isinstance(result, Mapping) and "findings" in result else {}


def _silent(host: str) -> Finding:
    return _finding(
        host,
        "host.no_answer",
        "error",
        "the host could not be checked (see its own message above).",
        "Check address, login and Python of the host, then run the check again.",
    )


def _finding(host: str, code: str, severity: str, message: str, remedy: str, chip: int | None = None) -> Finding:
    return {"host": host, "code": code, "severity": severity, "chip": chip, "message": message, "remedy": remedy}


def _odd_ones(seen: Results, nets: Results) -> list[Finding]:
    """Compare the hosts: versions and chips ought to be equal, the TLS switch has to be, an address must be unique."""
    same = "Bring the hosts to one version; the run may work, but a difference is the first thing to rule out."
    found = _compare("driver", "warning", {host: _driver(result) for host, result in seen.items()}, same)
    found += _compare("firmware", "warning", {host: _firmware(result) for host, result in seen.items()}, same)
    found += _compare("chips", "warning", {host: _chips(result) for host, result in seen.items()}, same)
    switch = "Make the TLS switch equal on every NPU of the fleet: `hccn_tool -i N -tls -s enable 0` (or 1)."
    found += _compare("tls", "error", {host: _tls(result) for host, result in nets.items()}, switch)
    return found + _shared_addresses(nets)


def _driver(result: Mapping[str, Any]) -> str | None:
    if not result:
        return None
    return result["tool"]["driver_version"] or result["versions"]["driver"]["version"]


def _firmware(result: Mapping[str, Any]) -> str | None:
    return result["versions"]["firmware"]["version"] if result else None


def _chips(result: Mapping[str, Any]) -> str | None:
    """Return the kinds of chips, not their number: servers of one fleet may be filled differently."""
    kinds = {
        f"{chip['name']} {chip['hbm_total_mb'] or chip['memory_total_mb']} MB"
        for chip in result.get("chips", [])
        if chip["name"]
    }
    return " and ".join(sorted(kinds)) or None


def _tls(result: Mapping[str, Any]) -> str | None:
    """Return the switch of a host whose NPUs agree; where they do not, that is a finding of the host itself."""
    known = {port["tls_enabled"] for port in result.get("ports", [])} - {None}
    return {True: "on", False: "off"}[known.pop()] if len(known) == 1 else None


def _compare(what: str, severity: str, values: Mapping[str, Hashable | None], remedy: str) -> list[Finding]:
    """Name the hosts whose value is not the most frequent one (of equally frequent ones, the first host's)."""
    groups: dict[Hashable, list[str]] = {}
    for host, value in values.items():
        if value is not None:
            groups.setdefault(value, []).append(host)
    if len(groups) < 2:
        return []
    usual = max(groups, key=lambda value: len(groups[value]))
    rest = groups[usual]
    others = f"the other {len(rest)}" if len(rest) > FEW else ", ".join(rest)
    return [
        _finding(host, f"fleet.{what}", severity, f"{what} is {value}, on {others} it is {usual}.", remedy)
        for value, hosts in groups.items()
        for host in hosts
        if value != usual
    ]


def _shared_addresses(nets: Results) -> list[Finding]:
    """Name NPUs of different hosts that have the same address."""
    owners: dict[str, tuple[str, int]] = {}
    found = []
    for host, result in nets.items():
        for port in result.get("ports", []):
            first = owners.setdefault(port["address"], (host, port["phy_id"])) if port["address"] else None
            if first and first[0] != host:
                message = (
                    f"NPU {port['phy_id']} has address {port['address']}, and so has NPU {first[1]} of {first[0]}."
                )
                remedy = "Give each NPU of the fleet an address of its own."
                found.append(_finding(host, "fleet.address", "error", message, remedy, port["phy_id"]))
    return found


def driver_problems(findings: Sequence[Finding], host: str) -> list[str]:
    """Return what stops a host: one line an error, with its remedy."""
    errors = [item for item in findings if item["host"] == host and item["severity"] == "error"]
    return [f"{item['message']} Remedy: {item['remedy']}" for item in errors]


def driver_report(
    findings: Sequence[Finding], hosts: Sequence[str], hostvars: Mapping[str, Any], npus: str
) -> list[str]:
    """Return the report's lines: a table of the hosts, then every finding once, worst first."""
    rows = [["host", "driver", "firmware", "chips", "result"]]
    for host in hosts:
        result = _result(hostvars, host, npus)
        own = [item["severity"] for item in findings if item["host"] == host]
        rows.append([host, _driver(result) or "-", _firmware(result) or "-", _summary(result), _verdict(own)])
    return [f"Driver check of {len(hosts)} hosts", *_aligned(rows), *_paragraphs(findings)]


def _summary(result: Mapping[str, Any]) -> str:
    chips = result.get("chips", [])
    healthy = sum(chip["health"] == "OK" for chip in chips)
    return f"{len(chips)} x {_chips(result)}, {healthy} OK" if chips else "-"


def _verdict(severities: Sequence[str]) -> str:
    counts = [(severity, severities.count(severity)) for severity in SEVERITIES[:2]]
    said = [f"{count} {severity}{'s' if count > 1 else ''}" for severity, count in counts if count]
    return ", ".join(said) or "ok"


def _paragraphs(findings: Sequence[Finding]) -> list[str]:
    """Word the findings; the same one on several hosts stands there once."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for item in findings:
        key = (item["severity"], item["code"], item["message"], item["remedy"])
        groups.setdefault(key, []).append(item["host"])
    lines = []
    for (severity, code, message, remedy), hosts in groups.items():
        lines += ["", f"{severity} on {', '.join(hosts)} [{code}]", f"  {message}", f"  Remedy: {remedy}"]
    return lines


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {
            "driver_findings": driver_findings,
            "driver_problems": driver_problems,
            "driver_report": driver_report,
        }
