# SPDX-License-Identifier: GPL-3.0-or-later
"""Module port_listener: a process that answers on ports for a while, so that other servers can try to reach them.

A port on which nothing listens cannot be told from one that a firewall rejects; so the check brings its own listener.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from typing import Any, Dict, List, Sequence

from .errors import InputError
from .host import Host
from .outcome import Outcome
from .training_ports import taken_ports

LONGEST = 3600.0  # seconds after which a listener ends although nobody told it to
_END = "end"


def greeting(host: str, token: str) -> str:
    """Return the line with which a listener answers every connection."""
    return f"ascend-fleet {host} {token}"


def port_listener(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Start the listener (it outlives this call) or end it. Nothing of it stays, so it does not count as a change."""
    _check(params)
    if params["state"] == "absent":
        ended = [port for port in params["ports"] if not check_mode and _end(port, params["token"])]
        return Outcome(
            actions=[f"end the listener on port {port}" for port in ended], values={"ports": ended, "taken": []}
        )
    taken = taken_ports(host, params["ports"])
    if check_mode:
        return Outcome(values={"ports": [], "taken": taken})
    sockets = _bind(params["ports"])
    ports = sorted(wire.getsockname()[1] for wire in sockets)
    if sockets:
        _serve_apart(sockets, params["name"], params["token"], params["seconds"])
    actions = [f"answer on port {port} for at most {params['seconds']:g} s" for port in ports]
    return Outcome(actions=actions, values={"ports": ports, "taken": taken})


def _check(params: Dict[str, Any]) -> None:
    wrong = [port for port in params["ports"] if not 0 < port < 65536]
    if wrong:
        raise InputError(f"ports has {wrong}.", "Give TCP ports, 1 to 65535.")
    if not 0 < params["seconds"] <= LONGEST:
        raise InputError(f"seconds is {params['seconds']:g}.", f"Give the listener some seconds, at most {LONGEST:g}.")


def _bind(ports: Sequence[int]) -> List[socket.socket]:
    """Bind what is free; what is not has been reported with its owner."""
    found = []
    for port in ports:
        wire = socket.socket(socket.AF_INET)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            wire.bind(("0.0.0.0", port))
            wire.listen(256)
        except OSError:
            wire.close()
            continue
        wire.setblocking(False)
        found.append(wire)
    return found


def _serve_apart(sockets: Sequence[socket.socket], name: str, token: str, seconds: float) -> None:
    """Go on in a process of its own session, with nothing of the connection that started it."""
    if os.fork():
        for wire in sockets:
            wire.close()
        return
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        serve(sockets, greeting(name, token), f"{_END} {token}", seconds)
    finally:
        os._exit(0)


def serve(sockets: Sequence[socket.socket], hello: str, goodbye: str, seconds: float) -> int:
    """Answer every connection with one line until somebody sends `goodbye` or the time is over; return how many were answered."""
    deadline, answered = time.monotonic() + seconds, 0
    with selectors.DefaultSelector() as selector:
        for wire in sockets:
            selector.register(wire, selectors.EVENT_READ)
        while True:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready and time.monotonic() >= deadline:
                return answered
            for key, _ in ready:
                answered += 1
                if _answer(key.fileobj, hello, goodbye):
                    return answered


def _answer(listener: Any, hello: str, goodbye: str) -> bool:
    """Serve one connection; True if the caller knows the word that ends the listener. Only a caller of this host is asked for it."""
    try:
        wire, (address, _) = listener.accept()
        with wire:
            wire.settimeout(2.0)
            wire.sendall(f"{hello}\n".encode())
            if not address.startswith("127."):
                return False
            return bool(wire.recv(256).decode("utf-8", errors="replace").strip() == goodbye)
    except OSError:
        return False  # the caller went away


def _end(port: int, token: str) -> bool:
    """Tell the listener on this host to end; False where none listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5.0) as wire:
            wire.sendall(f"{_END} {token}\n".encode())
            wire.settimeout(5.0)
            while wire.recv(256):
                pass
        return True
    except OSError:
        return False
