# SPDX-License-Identifier: GPL-3.0-or-later
"""Module hccn_info: the network ports of a host's NPUs and what is wrong with them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .driver_findings import ERROR, WARNING, Finding, as_dicts, has_errors
from .errors import CommandError
from .hccn import EXTRA_TOPICS, TOPICS, Port, parse_hccn_conf, parse_port
from .hccn_assess import assess_ports
from .host import Host
from .npu_ask import WORKERS
from .npu_survey import device_nodes
from .npu_wanted import check_timeout
from .outcome import Outcome

# The driver's package puts the tool here; not every installation links it into PATH.
TOOL_PATH = "/usr/local/Ascend/driver/tools/hccn_tool"


def hccn_info(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Look and judge. Reading only, so check mode is the same. A bad port is a result with findings, not a failed module."""
    check_timeout(params["timeout"], "hccn_tool")
    npus = sorted(set(params["npus"])) or [node.phy_id for node in device_nodes(host) if node.is_device]
    tool = find_tool(host, params["hccn_tool"])
    path = params["hccn_conf"]
    saved, state = _read_conf(host, path)
    extra = [topic for topic in EXTRA_TOPICS if params[topic]]
    ports = look(host, tool, npus, params["timeout"], extra) if tool else []
    findings = assess_ports(ports, saved, path, state) if tool else [_missing(params["hccn_tool"])]
    return Outcome(
        values={
            "status": ERROR if has_errors(findings) else "ok",
            "ports": [port.as_dict((saved or {}).get(port.phy_id, {})) for port in ports],
            "findings": as_dicts(findings),
            "hccn_conf": {"path": path, "state": state, "npus": sorted(saved or {})},
            "tool": tool,
        }
    )


def find_tool(host: Host, name: str) -> Optional[str]:
    """Return the tool's path. Where the driver's directory is closed to this user it is taken for there: calling it says so."""
    try:
        return host.which(name) or (TOOL_PATH if host.is_file(TOOL_PATH) else None)
    except PermissionError:
        return TOOL_PATH


def _missing(name: str) -> Finding:
    message = f"{name} is not on this host ({TOOL_PATH} neither), so nothing is known about the network of its NPUs."
    remedy = "Reinstall the driver with its tools, or set driver_check_hccn_tool. Only single-server runs need no NPU network."
    return Finding("hccn.tool_missing", WARNING, message, remedy)


def _read_conf(host: Host, path: str) -> Tuple[Optional[Dict[int, Dict[str, str]]], str]:
    """Return what the file has and its state: ok, absent, closed (to this user) or directory."""
    try:
        if host.is_dir(path):
            return None, "directory"
        text = host.read_text(path)
    except PermissionError:
        return None, "closed"
    return (None, "absent") if text is None else (parse_hccn_conf(text), "ok")


def look(host: Host, tool: str, npus: Sequence[int], timeout: float, extra: Sequence[str]) -> List[Port]:
    """Ask about all NPUs, side by side; `extra` are questions beyond the usual ones."""
    topics = [*TOPICS, *extra]
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda npu: _ask(host, tool, npu, topics, timeout), npus))


def _ask(host: Host, tool: str, npu: int, topics: Sequence[str], timeout: float) -> Port:
    """Ask one NPU its questions; after the first without an answer the others would only hang as long."""
    answers: Dict[str, str] = {}
    for topic in topics:
        try:
            done = host.run([tool, "-i", str(npu), f"-{topic}", "-g"], check=False, timeout=timeout)
        except CommandError as error:
            return parse_port(npu, answers, silent=error.message)
        answers[topic] = done.stdout if done.stdout.strip() else done.stderr
    return parse_port(npu, answers)
