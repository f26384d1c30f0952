# SPDX-License-Identifier: GPL-3.0-or-later
"""hccn_tool: what it says about an NPU's own network interface, and a ping from there."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Optional, Tuple

from lab_driver import ask, echo
from lab_driver.npu_smi import REFUSALS
from lab_driver.view import NO_DEVICE

PACKETS = 3
FAILED = "Cmd executed failed!"


def answer(arguments: List[str]) -> Tuple[str, int]:
    """What `hccn_tool -i N -WHAT -g [address A]` prints, and its exit status."""
    if len(arguments) < 4 or arguments[0] != "-i" or arguments[3] != "-g":
        return FAILED, 1
    try:
        view = ask.view("hccn_tool")
    except ask.NoDriver:
        return REFUSALS[NO_DEVICE], 1
    if view["error"] is not None:
        return REFUSALS[view["error"]], 1
    npu = next((row for row in view["npus"] if str(row["logic"]) == arguments[1]), None)
    if npu is None:
        return FAILED, 1
    what, rest = arguments[2], arguments[4:]
    if what == "-ping" and len(rest) == 2 and rest[0] == "address":
        return _ping(npu, rest[1]), 0
    question = QUESTIONS.get(what)
    return (question(npu), 0) if question and not rest else (FAILED, 1)


def _address(npu: Dict[str, Any]) -> str:
    """Empty where no address is set, as the real tool prints nothing then."""
    return f"ipaddr:{npu['address']}\nnetmask:{npu['netmask']}" if "address" in npu else ""


def _gateway(npu: Dict[str, Any]) -> str:
    return f"default gateway:{npu['gateway']}, Iface:eth{npu['logic']}" if "gateway" in npu else ""


def _tls(npu: Dict[str, Any]) -> str:
    return (
        f"dev_id:{npu['logic']}, tls switch[{npu['tls']}](0:disable, 1:enable), "
        "tls preconfigured[1](0:non-preset, 1:preset), tls alarm time threshold[60]days"
    )


def _optical(npu: Dict[str, Any]) -> str:
    """A module within its thresholds; a fault `optical` replaces values, or with {"present": "not present"} takes it away."""
    values = {**_MODULE, **npu.get("optical", {})}
    shown = {"present": values["present"]} if values["present"] != "present" else values
    return "\n".join(["optical info:", *(f"{name:<20} : {value}" for name, value in shown.items())])


def _net_health(npu: Dict[str, Any]) -> str:
    """The driver's own test: does the detection address answer?"""
    return f"net health status: {npu.get('net_health') or _look(npu)}"


def _look(npu: Dict[str, Any]) -> str:
    if npu["link"] != "UP":
        return "Fault"
    if "address" not in npu or "netdetect" not in npu:
        return "Init"
    answered = any(time is not None for time in _times(npu["address"], npu["netdetect"], 1))
    return "Success" if answered else "Receive timeout"


def _ping(npu: Dict[str, Any], address: str) -> str:
    times = _times(npu.get("address", ""), address, PACKETS)
    came = [(number, time) for number, time in enumerate(times) if time is not None]
    lines = [f"device {npu['logic']} PING {address}"]
    lines += [f"recv seq={number},time={time:.6f}ms" for number, time in came]
    lost = 100.0 * (PACKETS - len(came)) / PACKETS
    lines.append(f"{PACKETS} packets transmitted, {len(came)} received, {lost:.2f}% packet loss")
    return "\n".join(lines)


def _times(source: str, address: str, count: int) -> List[Optional[float]]:
    if os.environ.get(ask.ROOT_VARIABLE):
        return echo.ping(source, address, count)
    question = {"want": "ping", "source": source, "address": address, "count": count}
    return list(ask.request(question)["times_ms"])


_MODULE = {
    "present": "present",
    "temperature": "41 C",
    "Vcc": "3295.10 mV",
    "Tx Power0": "1.2140 mW",
    "Rx Power0": "0.9210 mW",
    "Vcc High Thres": "3465.00 mV",
    "Vcc Low Thres": "3135.00 mV",
    "Temp High Thres": "70 C",
    "Temp Low Thres": "0 C",
    "TxPower High Thres": "3.5481 mW",
    "TxPower Low Thres": "0.2818 mW",
    "RxPower High Thres": "3.5481 mW",
    "RxPower Low Thres": "0.1445 mW",
    "Tx Los Flag": "0x0",
    "Rx Los Flag": "0x0",
}
QUESTIONS: Dict[str, Callable[[Dict[str, Any]], str]] = {
    "-ip": _address,
    "-link": lambda npu: f"link status: {npu['link']}",
    "-net_health": _net_health,
    "-netdetect": lambda npu: f"netdetect address: {npu['netdetect']}" if "netdetect" in npu else "",
    "-gateway": _gateway,
    "-tls": _tls,
    "-mtu": lambda npu: f"mtu:{npu['mtu']}",
    "-optical": _optical,
}
