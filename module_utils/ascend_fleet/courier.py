# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in for ssh where the serving side is the controller: carries one request through a socket, and its answer back.

Called as ssh would be, `courier.py SOCKET HOST WORD...`: by rsync as its remote shell, and for a tar stream. The transfer puts
this file on the receiving host by itself, so it imports nothing of this package. On the far side of the socket is `outlet.py`.

The request is one line of JSON; after it, stdin goes to the far side as it is. The answer comes in frames: kind (1 byte), length
(4 bytes, network order), payload. Kinds: `o` for stdout, `e` for stderr, `x` with the exit status as text, which ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import threading
from typing import IO, List, Optional

HEADER = struct.Struct("!cI")
CHUNK = 256 * 1024  # bytes
LOST_STATUS = 255  # as ssh's: the connection broke


def connect(path: str) -> socket.socket:
    """Return a connection to the far side."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.connect(path)
    return made


def send_stdin(channel: socket.socket, stdin: IO[bytes]) -> None:
    """Hand on everything that comes in, then say that nothing more will."""
    with contextlib.suppress(OSError):  # the far side has gone: its status or its silence says so
        while True:
            data = os.read(stdin.fileno(), CHUNK)
            if not data:
                break
            channel.sendall(data)
        channel.shutdown(socket.SHUT_WR)


def read_answer(stream: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> Optional[int]:
    """Write out the answer; return its exit status, or None where the connection broke before it came."""
    while True:
        header = stream.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        kind, length = HEADER.unpack(header)
        payload = stream.read(length)
        if len(payload) < length:
            return None
        if kind == b"x":
            return int(payload)
        output = stdout if kind == b"o" else stderr
        output.write(payload)
        output.flush()


def carry(path: str, words: List[str]) -> int:
    """Carry one request and return the status to end with."""
    try:
        channel = connect(path)
    except OSError as error:
        sys.stderr.write(f"the controller does not answer at {path} ({error.strerror})\n")
        return LOST_STATUS
    with channel, channel.makefile("rb") as answers:
        channel.sendall(json.dumps({"request": " ".join(words)}).encode() + b"\n")
        threading.Thread(target=send_stdin, args=(channel, sys.stdin.buffer), daemon=True).start()
        try:
            status = read_answer(answers, sys.stdout.buffer, sys.stderr.buffer)
        except BrokenPipeError:
            return LOST_STATUS  # whoever asked went away
        except OSError:
            status = None
    if status is None:
        sys.stderr.write("the connection to the controller broke\n")
        return LOST_STATUS
    return status


if __name__ == "__main__":
    for descriptor in (0, 1, 2):
        os.set_blocking(descriptor, True)  # rsync hands out a stdout that does not block
    # A thread may still wait for stdin, which nobody closes; the process ends all the same.
    code = carry(sys.argv[1], sys.argv[3:])
    sys.stdout.flush()
    os._exit(code)
