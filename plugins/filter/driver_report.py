# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for the report of the driver check: as data (for JSON and HTML) and as lines for a person, made from that data."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# On the controller module_utils is a directory like any other.
sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from ascend_fleet.plan_findings import counted

Finding = Mapping[str, Any]
Data = dict[str, Any]

SEVERITIES = ("error", "warning", "info")
RESULT = "driver_check_server"  # the variable with a host's result of npu_server_info
NAMED = 6  # hosts that are named in one line; more are counted
FINDING = ("severity", "code", "message", "remedy")  # what makes findings of several hosts the same
HEAD = ("host", "driver", "firmware", "chips", "kernel", "result")


def driver_data(
    findings: Sequence[Finding],
    hosts: Sequence[str],
    hostvars: Mapping[str, Any],
    policy: str,
    excluded: Sequence[str],
    reach: Mapping[str, Any],
) -> Data:
    """Return the whole report as plain data.

    `hosts` (in the order of the inventory) [{name, driver, firmware, kernel, chips, counts, excluded}], `findings` worst first,
    `counts` {severity: number}, `policy`, `excluded`, `reach` (what the reachability check tried; empty where it was not asked for),
    `looked_at` (when the last host was asked, in seconds since the epoch; None where none was).
    """
    if isinstance(hosts, str) or not isinstance(hosts, Sequence):
        raise AnsibleFilterError(f"driver_data needs a list of inventory names, not {hosts!r}")
    rows = [_host(host, hostvars, findings, host in excluded) for host in hosts]
    return {
        "hosts": rows,
        "findings": [dict(item) for item in findings],
        "counts": _counts(findings),
        "policy": policy,
        "excluded": list(excluded),
        "reach": dict(reach),
        "looked_at": max((at for at in (_looked_at(hostvars, host) for host in hosts) if at), default=None),
    }


def _looked_at(hostvars: Mapping[str, Any], host: str) -> float | None:
    """Return when the controller asked a host, in seconds since the epoch; an answer that serves again keeps its time."""
    result = hostvars[host].get(RESULT) if host in hostvars else None
    asked = result.get("asked", {}) if isinstance(result, Mapping) else {}
    return float(asked["sent_at"]) if asked.get("sent_at") else None


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {severity: sum(item["severity"] == severity for item in findings) for severity in SEVERITIES}


def _host(host: str, hostvars: Mapping[str, Any], findings: Sequence[Finding], excluded: bool) -> Data:
    counts = _counts([item for item in findings if item["host"] == host])
    row: Data = {"name": host, "answered": False, "counts": counts, "excluded": excluded}
    result = hostvars[host].get(RESULT) if host in hostvars else None
    if not isinstance(result, Mapping) or "findings" not in result:
        return row
    npus, server = result["npus"], result["server"]
    return {
        **row,
        "answered": True,
        "driver": npus["tool"]["driver_version"] or npus["versions"]["driver"]["version"],
        "firmware": npus["versions"]["firmware"]["version"],
        "kernel": server["kernel"],
        "architecture": server["architecture"],
        "system": server["system"],
        "memory_mb": server["memory_mb"],
        "interface": server["interface"],
        "clock_offset_s": server["clock_offset_s"],
        "chips": [_chip(chip, result["network"]["ports"]) for chip in result["chips"]],
    }


def _chip(chip: Mapping[str, Any], ports: Sequence[Mapping[str, Any]]) -> Data:
    """Return a chip with the port that belongs to it."""
    port = next((port for port in ports if port["phy_id"] == chip["phy_id"]), None)
    network = {key: port[key] for key in ("link", "address", "net_health", "tls_enabled", "mtu")} if port else None
    return {**chip, "network": network}


def driver_lines(data: Mapping[str, Any]) -> list[str]:
    """Return the report for a person: a table of the hosts, then every finding once, worst first.

    Hosts that look alike share a row, so that a fleet of hundreds is still read at one glance.
    """
    rows = [list(HEAD), *([_names(names), *cells] for cells, names in _alike(data["hosts"]))]
    title = f"Driver check of {counted(len(data['hosts']), 'host')}: {_verdict(data['counts'])}"
    return [title, *_aligned(rows), *_reach_lines(data["reach"]), *_paragraphs(data["findings"]), *_left_out(data)]


def _alike(hosts: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[str, ...], list[str]]]:
    """Return (what a table says, names) of hosts that look alike, in the order of the inventory."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in hosts:
        groups.setdefault(_cells(row), []).append(row["name"])
    return list(groups.items())


def driver_groups(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the hosts for the page: {hosts, cells {column: text}, worst}; hosts with a problem first, then the odd ones out."""
    worst = {row["name"]: next((name for name in SEVERITIES if row["counts"][name]), "") for row in data["hosts"]}
    groups = [
        {"hosts": names, "cells": dict(zip(HEAD[1:], cells)), "worst": worst[names[0]]}
        for cells, names in _alike(data["hosts"])
    ]
    return sorted(groups, key=lambda group: ((*SEVERITIES, "").index(group["worst"]), len(group["hosts"])))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    verdict = _verdict(row["counts"]) + (", left out" if row["excluded"] else "")
    if not row["answered"]:
        return ("-", "-", "-", "-", verdict)
    return (row["driver"] or "-", row["firmware"] or "-", _summary(row["chips"]), row["kernel"] or "-", verdict)


def _summary(chips: Sequence[Mapping[str, Any]]) -> str:
    kinds = sorted(
        {f"{chip['name']} {chip['hbm_total_mb'] or chip['memory_total_mb']} MB" for chip in chips if chip["name"]}
    )
    healthy = sum(chip["health"] == "OK" for chip in chips)
    return f"{len(chips)} x {' and '.join(kinds) or 'unknown'}, {healthy} OK" if chips else "-"


def _verdict(counts: Mapping[str, int]) -> str:
    said = [f"{counts[name]} {name}{'s' if counts[name] > 1 else ''}" for name in SEVERITIES[:2] if counts[name]]
    return ", ".join(said) or "ok"


def _names(names: Sequence[str]) -> str:
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1} more"


def _reach_lines(reach: Mapping[str, Any]) -> list[str]:
    if not reach:
        return []
    part = "" if reach["whole"] else ", a sample"
    return [
        "",
        f"reached: {reach['pings_ok']} of {reach['pings']} NPU pairs, {reach['ports_ok']} of {reach['ports']} ports{part}",
    ]


def _paragraphs(findings: Sequence[Finding]) -> list[str]:
    """Word the findings; the same one on several hosts stands there once."""
    lines = []
    for item in finding_groups(findings):
        lines += ["", f"{item['severity']} {_names(item['hosts'])}: {item['message']} [{item['code']}]"]
        lines.append(f"  Remedy: {item['remedy']}")
    return lines


def finding_groups(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the findings, worst first, each once with the hosts that have it: {severity, code, message, remedy, hosts}."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for item in findings:
        groups.setdefault(tuple(item[key] for key in FINDING), []).append(item["host"])
    return [{**dict(zip(FINDING, key)), "hosts": hosts} for key, hosts in groups.items()]


def _left_out(data: Mapping[str, Any]) -> list[str]:
    return ["", f"left out of this run: {', '.join(data['excluded'])}"] if data["excluded"] else []


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {
            "driver_data": driver_data,
            "driver_lines": driver_lines,
            "driver_groups": driver_groups,
            "finding_groups": finding_groups,
        }
