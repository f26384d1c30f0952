# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement over the NPU network ports of one host: pure, no effects."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence

from .driver_findings import ERROR, INFO, WARNING, Finding
from .hccn import Port
from .hccn_optical import assess_optical

SUCCESS = "Success"
# The port is fine and the check behind net_health has just not run, or has no address to look for.
_NOT_CHECKED = ("Init", "Detect ip set")


def assess_ports(
    ports: Sequence[Port], saved: Optional[Dict[int, Dict[str, str]]], conf_path: str, conf_state: str
) -> List[Finding]:
    """Return what is wrong with the ports. `saved` is hccn.conf, None where there is none; `conf_state` says why."""
    findings: List[Finding] = []
    for port in ports:
        if port.silent or port.refuses:
            findings.append(_silent(port) if port.silent else _refuses(port))
            continue
        findings += _link(port) + _address(port) + _net_health(port) + assess_optical(port)
        if saved is not None:
            findings += _saved(port, saved.get(port.phy_id, {}), conf_path)
    if saved is None and any(port.address for port in ports):
        findings.append(_no_conf(conf_path, conf_state))
    return findings + _tls(ports) + _same_address(ports)


def _silent(port: Port) -> Finding:
    remedy = "Look at `dmesg`; the NPU may be in a fault state (compare with npu-smi)."
    return Finding("hccn.no_answer", ERROR, f"NPU {port.phy_id}: {port.silent}", remedy, port.phy_id)


def _refuses(port: Port) -> Finding:
    message = f"NPU {port.phy_id}: hccn_tool answers no question about it ({_refusal(port, 'link')})."
    remedy = "Compare with npu-smi: the chip dropped off, or this kind of chip has no network port of its own."
    return Finding("hccn.refused", ERROR, message, remedy, port.phy_id)


def _link(port: Port) -> List[Finding]:
    if port.link == "UP":
        return []
    if port.link is None:
        message = f"NPU {port.phy_id}: the state of its link is unknown ({_refusal(port, 'link')})."
        remedy = f"Run `hccn_tool -i {port.phy_id} -link -g` by hand."
        return [Finding("link.unknown", WARNING, message, remedy, port.phy_id)]
    remedy = (
        f"Check cable, optical module (`hccn_tool -i {port.phy_id} -optical -g`) and switch port (`-lldp -g` names it)."
    )
    return [Finding("link.down", ERROR, f"NPU {port.phy_id}: its network link is {port.link}.", remedy, port.phy_id)]


def _refusal(port: Port, topic: str) -> str:
    return repr(port.refused[topic][:120]) if topic in port.refused else "no answer"


def _address(port: Port) -> List[Finding]:
    if port.address is not None:
        return []
    message = f"NPU {port.phy_id} has no network address ({_refusal(port, 'ip')})."
    remedy = f"Set one: `hccn_tool -i {port.phy_id} -ip -s address ADDRESS netmask NETMASK`."
    return [Finding("address.missing", ERROR, message, remedy, port.phy_id)]


def _net_health(port: Port) -> List[Finding]:
    """The tool's own check of the way to netdetect's address. Where the link is down it can only say the same again."""
    if port.net_health in (None, SUCCESS) or port.link != "UP":
        return []
    severity = INFO if port.net_health in _NOT_CHECKED else WARNING
    message = f"NPU {port.phy_id}: net health is {port.net_health} (it looks for {port.netdetect or 'no address: none is set'})."
    remedy = (
        f"Check the way from the NPU to {port.netdetect}: its own address, VLAN, switch."
        if port.netdetect
        else f"Set the gateway as the address to look for: `hccn_tool -i {port.phy_id} -netdetect -s address GATEWAY`."
    )
    return [Finding("net.health", severity, message, remedy, port.phy_id)]


def _saved(port: Port, saved: Dict[str, str], conf_path: str) -> List[Finding]:
    """HCCL reads the file, the device has its own address: a stale file makes ranks call an address nobody has."""
    if port.address is None:
        return []
    if "address" not in saved:
        message = f"NPU {port.phy_id} has address {port.address}, but {conf_path} has no address_{port.phy_id}."
        remedy = f"Add address_{port.phy_id}={port.address} and its netmask, or it is lost at the next restart."
        return [Finding("address.not_saved", WARNING, message, remedy, port.phy_id)]
    for key, live in (("address", port.address), ("netmask", port.netmask)):
        if key in saved and live is not None and saved[key] != live:
            message = f"NPU {port.phy_id}: {conf_path} has {key} {saved[key]}, the device has {live}."
            remedy = (
                f"Make them equal: correct {key}_{port.phy_id} in {conf_path}, "
                f"or set the device with `hccn_tool -i {port.phy_id} -ip -s`."
            )
            return [Finding("address.stale", ERROR, message, remedy, port.phy_id)]
    return []


def _no_conf(path: str, state: str) -> Finding:
    if state == "directory":
        message = f"{path} is a directory: Docker makes one when it mounts a file that is not there."
        return Finding("hccn.conf", WARNING, message, "Remove the empty directory and write the file.")
    if state == "closed":
        message = f"{path} cannot be read by this user, so it was not compared with the addresses that the NPUs have."
        return Finding("hccn.conf", WARNING, message, "Let Ansible become root for this check.")
    message = (
        f"{path} is not there, so the NPUs' addresses are lost at the next restart and containers cannot read them."
    )
    return Finding("hccn.conf", WARNING, message, "Set the addresses again with hccn_tool, which writes the file.")


def _tls(ports: Sequence[Port]) -> List[Finding]:
    """All NPUs of a job have to agree; the ones in the minority are named."""
    known = [port for port in ports if port.tls_enabled is not None]
    on = [port for port in known if port.tls_enabled]
    off = [port for port in known if not port.tls_enabled]
    if not on or not off:
        return []
    odd, rest = (on, off) if len(on) <= len(off) else (off, on)
    remedy = "Make the switch equal on every NPU of the fleet: `hccn_tool -i N -tls -s enable 0` (or 1)."
    return [
        Finding(
            "tls.mismatch",
            ERROR,
            f"NPU {port.phy_id}: TLS is {_switch(port)}, on the other {len(rest)} it is {_switch(rest[0])}.",
            remedy,
            port.phy_id,
        )
        for port in odd
    ]


def _switch(port: Port) -> str:
    return "on" if port.tls_enabled else "off"


def _same_address(ports: Sequence[Port]) -> List[Finding]:
    by_address: Dict[str, List[int]] = {}
    for port in ports:
        if port.address:
            by_address.setdefault(port.address, []).append(port.phy_id)
    return [
        Finding(
            "address.duplicate",
            ERROR,
            f"NPUs {npus} have the same address {address}.",
            "Give each an address of its own.",
            npus[-1],
        )
        for address, npus in sorted(by_address.items())
        if len(npus) > 1
    ]
