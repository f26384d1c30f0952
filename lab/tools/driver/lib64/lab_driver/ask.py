# SPDX-License-Identifier: GPL-3.0-or-later
"""How a tool gets its answer: from the driver's socket, or from a laid-out server where a test names one."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any, Dict

from lab_driver import view as _view

SOCKET = Path(__file__).resolve().parent.parent / "lab_driver.sock"
ROOT_VARIABLE = "ASCEND_LAB_ROOT"
CALLER_VARIABLE = "ASCEND_LAB_CALLER"
HOST_PID = 1


class NoDriver(Exception):
    """No driver answers: none runs, or this user may not open its devices."""


def view(tool: str) -> Dict[str, Any]:
    """What the driver says to this process. A tool that is to hang does so here, until it is killed."""
    root = os.environ.get(ROOT_VARIABLE)
    if root:
        caller = int(os.environ.get(CALLER_VARIABLE, HOST_PID))
        answer = _view.view(Path(root), caller, HOST_PID)
    else:
        answer = request({"want": "view"})
    while tool in answer["hangs"]:
        time.sleep(3600)
    return answer


def process_root() -> Path:
    """Where this tool looks processes up by itself: its own /proc, which in a container is not the host's."""
    return Path(os.environ.get(ROOT_VARIABLE) or "/")


def request(question: Dict[str, Any]) -> Dict[str, Any]:
    """Put one question to the driver and return its answer. Raises NoDriver."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(SOCKET))
        except OSError as error:
            raise NoDriver(str(error)) from error
        connection.sendall(json.dumps(question).encode())
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as stream:
            received = stream.read()
    answer = json.loads(received)
    if "failed" in answer:
        raise SystemExit(f"lab driver: {answer['failed']}")
    return dict(answer)
