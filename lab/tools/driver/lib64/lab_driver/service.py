#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver of a lab server: answers its tools over a socket that travels with the driver's directory.

It runs on the server itself, because a tool in a container cannot see who else holds an NPU. The kernel tells it
which process asks; what that process may see follows from its namespaces, not from anything it says.
"""

from __future__ import annotations

import grp
import json
import os
import socket
import struct
import threading
from pathlib import Path
from typing import Any, Dict

from lab_driver import addresses, echo
from lab_driver.ask import SOCKET
from lab_driver.view import view

ROOT = Path("/")
GROUP = "HwHiAiUser"
LOOK_SECONDS = 1.0
LONGEST_QUESTION = 65536


def listen() -> socket.socket:
    """The socket, open to root and the driver's group like the NPU nodes."""
    if SOCKET.exists():
        SOCKET.unlink()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(SOCKET))
    os.chown(SOCKET, 0, grp.getgrnam(GROUP).gr_gid)
    SOCKET.chmod(0o660)
    listener.listen(64)
    listener.settimeout(LOOK_SECONDS)
    return listener


def answer(question: Dict[str, Any], caller: int) -> Dict[str, Any]:
    """Answer one question of the process `caller`."""
    if question.get("want") == "ping":
        return {"times_ms": echo.ping(question["source"], question["address"], int(question["count"]))}
    return view(ROOT, caller, os.getpid())


def serve(connection: socket.socket) -> None:
    """Read a question, answer it; what goes wrong is told to the caller."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    caller = struct.unpack("3i", credentials)[0]
    with connection, connection.makefile("rb") as stream:
        try:
            reply = answer(json.loads(stream.read(LONGEST_QUESTION)), caller)
        except (OSError, ValueError, KeyError) as error:
            reply = {"failed": f"{type(error).__name__}: {error}"}
        try:
            connection.sendall(json.dumps(reply).encode())
        except OSError as error:
            print(f"lab driver: a caller left: {error}", flush=True)


def main() -> None:
    """Keep the NPUs' addresses as the files say and answer until the server ends."""
    listener = listen()
    keeper = addresses.Keeper(ROOT)
    while True:
        keeper.look()
        try:
            connection, _ = listener.accept()
        except socket.timeout:
            continue
        connection.settimeout(10.0)
        # A ping can take seconds, and other tools do not wait for it.
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
