# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for the reachability check: who tries to reach whom, and which NPU is to blame for what did not get through.

A matrix of pings shows a bad NPU as a row and a column of failures. Naming the NPU, and not the pairs, is the point of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

Finding = dict[str, Any]
Node = tuple[str, int]  # (host, physical id)

RESULT = "driver_check_server"  # the variable with a host's result of npu_server_info
FEWEST = 2  # calls that each end makes even in the largest fleet: one failure alone names nobody


def driver_reach_plan(
    hosts: Sequence[str], hostvars: Mapping[str, Any], ports: Sequence[int], limit: int
) -> dict[str, dict[str, Any]]:
    """Return host -> {pings: [{npu, host, to_npu, address}], dials: [{host, address, port}], whole}.

    Every NPU with an address pings every other, and every host calls every other host's ports, unless that makes more than `limit`
    calls: then each takes some of the others, the next ones and ones further and further away in a ring.
    """
    if limit < 1:
        raise AnsibleFilterError(f"driver_reach_plan needs a limit of at least 1, not {limit}")
    npus = _addresses(hosts, hostvars)
    pairs, whole = _pairs(sorted(npus, key=lambda node: (node[1], hosts.index(node[0]))), limit)
    calls, all_hosts = _pairs(list(hosts), max(1, limit // max(1, len(ports))))
    plan: dict[str, dict[str, Any]] = {host: {"pings": [], "dials": [], "whole": whole and all_hosts} for host in hosts}
    for (host, npu), target in pairs:
        ping = {"npu": npu, "host": target[0], "to_npu": target[1], "address": npus[target]}
        plan[host]["pings"].append(ping)
    for host, target in calls:
        plan[host]["dials"] += [{"host": target, "address": _address(hostvars, target), "port": port} for port in ports]
    return plan


def _addresses(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> dict[Node, str]:
    found: dict[Node, str] = {}
    for host in hosts:
        ports = hostvars[host].get(RESULT, {}).get("network", {}).get("ports", [])
        found.update({(host, port["phy_id"]): port["address"] for port in ports if port["address"]})
    return found


def _address(hostvars: Mapping[str, Any], host: str) -> str:
    """Return the address for other servers, which may differ from the one that ssh uses."""
    variables = hostvars[host]
    return str(variables.get("ascend_address") or variables.get("ansible_host") or host)


def _pairs(nodes: Sequence[Any], limit: int) -> tuple[list[tuple[Any, Any]], bool]:
    """Return who calls whom, and whether that is everybody. Steps 1, 2, 4, ... round a ring reach near and far."""
    count = len(nodes)
    degree = count - 1 if count * (count - 1) <= limit else max(FEWEST, limit // max(1, count))
    steps = _steps(count, min(degree, count - 1))
    pairs = [(node, nodes[(place + step) % count]) for place, node in enumerate(nodes) for step in steps]
    return pairs, len(steps) >= count - 1


def _steps(count: int, degree: int) -> list[int]:
    powers = [1 << exponent for exponent in range(count.bit_length()) if 1 << exponent < count]
    rest = [step for step in range(1, count) if step not in powers]
    return sorted((powers + rest)[: max(0, degree)])


def driver_reach_findings(
    answers: Mapping[str, Mapping[str, Any]], listeners: Mapping[str, Mapping[str, Any]]
) -> list[Finding]:
    """Return findings {host, code, severity, chip, message, remedy} of what npu_reach_info and port_listener answered on each host."""
    pings = [
        ((host, row["npu"]), (row["host"], row["to_npu"]), row)
        for host, rows in _rows(answers, "pings")
        for row in rows
    ]
    dials = [(host, row["host"], row) for host, rows in _rows(answers, "dials") for row in rows]
    return [*_taken(listeners), *_bad_npus(pings), *_bad_ports(dials)]


def _taken(listeners: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Report who has a port that the run will use; whether it may is known when the run starts."""
    remedy = "If that is no run of yours, end it, or choose other ports (run_plan_master_port, HCCL_IF_BASE_PORT)."
    return [
        {**_finding(host, "port.taken", f"{line}.", remedy), "severity": "warning"}
        for host, answer in listeners.items()
        for line in answer.get("taken", [])
    ]


def _rows(answers: Mapping[str, Mapping[str, Any]], key: str) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    return [(host, answer.get(key, [])) for host, answer in answers.items()]


def driver_reach_summary(
    answers: Mapping[str, Mapping[str, Any]], plan: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return counts for the report: {pings, pings_ok, ports, ports_ok, whole}."""
    pings = [row["ok"] for _, rows in _rows(answers, "pings") for row in rows]
    dials = [row["state"] == "ok" for _, rows in _rows(answers, "dials") for row in rows]
    whole = all(part["whole"] for part in plan.values())
    return {"pings": len(pings), "pings_ok": sum(pings), "ports": len(dials), "ports_ok": sum(dials), "whole": whole}


def blame(pairs: Iterable[tuple[Any, Any, bool]]) -> tuple[dict[Any, tuple[int, int]], list[tuple[Any, Any]]]:
    """Return the ends that most failures have in common, {end: (failed, tried)}, and failed pairs that no single end explains.

    The end with the largest share of failures is taken first; then what is left is looked at without it. Where both ends of a failure
    are as bad as each other, neither is blamed.
    """
    left = list(pairs)
    blamed: dict[Any, tuple[int, int]] = {}
    while True:
        counts = _failures(left)
        worst_first = sorted(counts, key=lambda end: (-counts[end][0] / counts[end][1], -counts[end][0]))
        guilty = next((end for end in worst_first if _is_guilty(end, counts, left)), None)
        if guilty is None:
            return blamed, [(one, two) for one, two, ok in left if not ok]
        blamed[guilty] = counts[guilty]
        left = [pair for pair in left if guilty not in pair[:2]]


def _is_guilty(end: Any, counts: Mapping[Any, tuple[int, int]], pairs: Iterable[tuple[Any, Any, bool]]) -> bool:
    """Say whether an end fails mostly, and with ends that are better than itself: the others say nothing about which of two it is."""
    failed, tried = counts[end]
    if failed < FEWEST or failed * 2 < tried:
        return False
    partners = [two if one == end else one for one, two, ok in pairs if not ok and end in (one, two)]
    return sum(counts[other][0] * tried < failed * counts[other][1] for other in partners) >= FEWEST


def _failures(pairs: Iterable[tuple[Any, Any, bool]]) -> dict[Any, tuple[int, int]]:
    """Return end -> (failed, tried) of all pairs that it is part of."""
    counts: dict[Any, tuple[int, int]] = {}
    for one, two, ok in pairs:
        for end in {one, two}:
            failed, tried = counts.get(end, (0, 0))
            counts[end] = (failed + (not ok), tried + 1)
    return counts


def _bad_npus(pings: Sequence[tuple[Node, Node, Mapping[str, Any]]]) -> list[Finding]:
    blamed, pairs = blame((source, target, row["ok"]) for source, target, row in pings)
    remedy = (
        "Check its link, address, netmask and VLAN (`hccn_tool -i N -link -g`, `-ip -g`, `-lldp -g` for the switch port), "
        "and /etc/hccn.conf against the live address."
    )
    found = []
    for (host, npu), (failed, tried) in blamed.items():
        message = f"NPU {npu}: {failed} of {tried} pings from and to it failed, the other NPUs reach each other."
        found.append(_finding(host, "reach.npu", message, remedy, npu))
    return found + _bad_ways(pairs)


def _bad_ways(pairs: Sequence[tuple[Node, Node]]) -> list[Finding]:
    """Word failures that are nobody's: single pairs, or two hosts whose NPUs do not reach each other."""
    remedy = "Both ends are equally bad, or fine with others: look at the way between their switches, and at both ends."
    between: dict[tuple[str, str], list[tuple[Node, Node]]] = {}
    for one, two in pairs:
        between.setdefault((min(one[0], two[0]), max(one[0], two[0])), []).append((one, two))
    found = []
    for (host, other), ways in between.items():
        if len(ways) > FEWEST:
            message = f"its NPUs do not reach those of {other} ({len(ways)} pings failed)."
            found.append(_finding(host, "reach.hosts", message, remedy))
            continue
        for (source, npu), (target, to_npu) in ways:
            message = f"NPU {npu}: does not reach NPU {to_npu} of {target}."
            found.append(_finding(source, "reach.pair", message, remedy, npu))
    return found


def _bad_ports(dials: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[Finding]:
    """Name the host that others do not reach on a port: one finding a port, with what they saw."""
    found = []
    for port in sorted({row["port"] for _, _, row in dials}):
        rows = [(host, target, row) for host, target, row in dials if row["port"] == port]
        blamed, pairs = blame((f"from {host}", f"to {target}", row["state"] == "ok") for host, target, row in rows)
        said = {f"to {target}": row["said"] for _, target, row in rows if row["state"] != "ok"}
        for end, (failed, tried) in blamed.items():
            way, _, host = end.partition(" ")
            message = f"port {port}: {failed} of {tried} connections {way} this host failed" + (
                f" ({said[end]})." if way == "to" else "."
            )
            found.append(_finding(host, "reach.port", message, _PORTS))
        for one, two in pairs:
            message = f"port {port} is not reached from {one.partition(' ')[2]} ({said[two]})."
            found.append(_finding(two.partition(" ")[2], "reach.port", message, _PORTS))
    return found


_PORTS = (
    "Open the port between the servers of the run (firewalld, iptables, security groups), end the process that has it, and check that "
    "ascend_address is the address of ascend_interface."
)


def _finding(host: str, code: str, message: str, remedy: str, chip: int | None = None) -> Finding:
    return {"host": host, "code": code, "severity": "error", "chip": chip, "message": message, "remedy": remedy}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {
            "driver_reach_plan": driver_reach_plan,
            "driver_reach_findings": driver_reach_findings,
            "driver_reach_summary": driver_reach_summary,
        }
