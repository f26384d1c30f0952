# SPDX-License-Identifier: GPL-3.0-or-later
"""Module npu_reach_info: ping NPUs of other servers from the NPUs of this one, and call ports of other servers."""

from __future__ import annotations

import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Dict, Optional

from .errors import CommandError
from .hccn_info import find_tool
from .host import Host
from .npu_ask import WORKERS
from .npu_wanted import check_timeout
from .outcome import Outcome
from .port_listener import greeting

CALLERS = 32  # connections at a time: each mostly waits

_COUNTS = re.compile(r"([0-9]{1,6}) packets transmitted, ([0-9]{1,6}) received")
_TIME = re.compile(r"time=([0-9]{1,9}(?:\.[0-9]{1,9})?)ms")


@dataclass(frozen=True)
class Pinged:
    """Answer of `hccn_tool -ping`. Reached: at least half came back, since the first one may be lost to address resolution."""

    sent: int
    received: int
    fastest_ms: Optional[float]
    said: str

    @property
    def ok(self) -> bool:
        """Whether the other end answers."""
        return self.received > 0 and self.received * 2 >= self.sent


def parse_ping(text: str) -> Pinged:
    """Read what the tool prints; anything without its last line counts as nothing received."""
    counts = _COUNTS.search(text)
    times = [float(found) for found in _TIME.findall(text)]
    lines = text.strip().splitlines()
    said = lines[-1][:160] if lines else "no answer"
    if not counts:
        return Pinged(0, 0, None, said)
    return Pinged(int(counts.group(1)), int(counts.group(2)), min(times, default=None), said)


def reach_info(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Try all of it, side by side. Reading only: what does not answer is a row of the result."""
    tool = find_tool(host, params["hccn_tool"])
    timeout = params["timeout"]
    check_timeout(timeout, "every call")
    with ThreadPoolExecutor(WORKERS) as pingers, ThreadPoolExecutor(CALLERS) as callers:
        pings = pingers.map(lambda row: _ping(host, tool, row, timeout), params["pings"])
        dials = callers.map(lambda row: dial(row, params["token"], timeout), params["dials"])
        return Outcome(values={"pings": list(pings), "dials": list(dials)})


def _ping(host: Host, tool: Optional[str], row: Dict[str, Any], timeout: float) -> Dict[str, Any]:
    if tool is None:
        found = Pinged(0, 0, None, "hccn_tool is not on this host")
    else:
        argv = [tool, "-i", str(row["npu"]), "-ping", "-g", "address", row["address"]]
        try:
            done = host.run(argv, check=False, timeout=timeout)
            found = parse_ping(done.stdout if done.stdout.strip() else done.stderr)
        except CommandError as error:
            found = Pinged(0, 0, None, error.message)
    return {**row, "ok": found.ok, **vars(found)}


def dial(row: Dict[str, Any], token: str, timeout: float) -> Dict[str, Any]:
    """Connect and compare who answers with who should: another service at the port, or another host at the address, is no success."""
    state, said = "ok", ""
    try:
        with socket.create_connection((row["address"], row["port"]), timeout) as wire:
            wire.settimeout(timeout)
            answer = wire.makefile("rb").readline(256).decode("utf-8", errors="replace").strip()
        if answer != greeting(row["host"], token):
            state, said = "stranger", f"somebody else answers: {answer!r}"
    except socket.timeout:
        state, said = "timeout", f"no answer within {timeout:g} s"
    except OSError as error:
        state, said = "refused", str(error.strerror or error)
    return {**row, "state": state, "said": said}
