# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts as the driver check's filters see them: the result of npu_server_info in a host variable."""

from __future__ import annotations

from typing import Any


def finding(code: str, severity: str, chip: int | None = None, message: str = "m") -> dict[str, Any]:
    return {"code": code, "severity": severity, "chip": chip, "message": message, "remedy": "r"}


def host(
    findings: list[dict[str, Any]] | None = None,
    driver: str = "25.0.rc1",
    firmware: str = "7.7.0",
    names: tuple[str, str] = ("910B3", "910B3"),
    hbm: tuple[int, int] = (65536, 65536),
    tls: tuple[bool | None, ...] = (False, False),
    addresses: tuple[str | None, ...] = (None, None),
    kernel: str = "5.10.0",
    clock: float | None = 0.4,
    nic: tuple[int, int | None] = (1500, 25000),
    port_mtu: tuple[int | None, int | None] = (None, None),
    runs: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A host with two NPUs, 0 and 1."""
    chips = [
        {"phy_id": number, "name": names[number], "health": "OK", "hbm_total_mb": hbm[number], "memory_total_mb": 0}
        for number in range(2)
    ]
    ports = [
        {
            "phy_id": number,
            "link": "UP",
            "net_health": "Success",
            "tls_enabled": switch,
            "address": addresses[number],
            "mtu": port_mtu[number],
        }
        for number, switch in enumerate(tls)
    ]
    versions = {"driver": {"version": driver}, "firmware": {"version": firmware}}
    server = {
        "kernel": kernel,
        "architecture": "aarch64",
        "system": "openEuler",
        "memory_mb": 1,
        "clock_offset_s": clock,
        "interface": {"name": "eth0", "state": "up", "mtu": nic[0], "speed_mbps": nic[1]},
    }
    npus = {"findings": [], "tool": {"driver_version": driver}, "versions": versions}
    result = {
        "findings": findings or [],
        "chips": chips,
        "npus": npus,
        "network": {"findings": [], "ports": ports},
        "server": server,
        "unfinished_runs": list(runs),
    }
    return {"driver_check_server": result}
