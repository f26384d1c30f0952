# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of a transfer through Ansible's own connection: answers requests that arrive at a socket.

It runs the same serving program as a transfer grant (serve.py), which refuses everything but reading below one directory. The
socket lies in a directory that only this user can enter; `courier.py` on the receiving host is the other side, and says what is
sent over it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from io import BufferedReader
from typing import IO, Iterator

from .courier import CHUNK, HEADER
from .serve import REFUSED_STATUS

REQUEST_LIMIT = 256 * 1024  # bytes of the request line
SERVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "serve.py")


class Outlet:
    """Serves the files below `root` to whoever reaches `path`, each connection in threads of its own."""

    def __init__(self, root: str, path: str) -> None:
        self.root = root
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no further connections; a shutdown wakes the thread that waits for one."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                channel, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(channel,), daemon=True).start()

    def _answer(self, channel: socket.socket) -> None:
        with channel, channel.makefile("rb") as stream, contextlib.suppress(OSError):
            line = stream.readline(REQUEST_LIMIT)
            try:
                request = str(json.loads(line)["request"])
            except (ValueError, KeyError, TypeError):
                _frame(channel, b"e", b"ascend-fleet refused: the request is not understood\n")
                _frame(channel, b"x", str(REFUSED_STATUS).encode())
                return
            _run(channel, stream, self.root, request)


def _run(channel: socket.socket, stream: BufferedReader, root: str, request: str) -> None:
    """Start the serving program for one request and pass on what it says; end it when the other side goes away."""
    process = subprocess.Popen(
        [sys.executable, "-I", SERVE, "--root", root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "SSH_ORIGINAL_COMMAND": request},
    )
    sending = threading.Lock()
    with process:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("the process needs its three pipes")
        threading.Thread(target=_feed, args=(stream, process.stdin), daemon=True).start()
        errors = threading.Thread(target=_pass_on, args=(process.stderr, channel, b"e", sending), daemon=True)
        errors.start()
        try:
            _pass_on(process.stdout, channel, b"o", sending)
            errors.join()
            _frame(channel, b"x", str(process.wait()).encode())
        except OSError:
            process.kill()
            raise


def _feed(stream: BufferedReader, stdin: IO[bytes]) -> None:
    """Hand the rest of what the other side sends to the serving program, each part as soon as it is there."""
    with contextlib.suppress(OSError, ValueError):  # the program has ended, and its pipe with it
        while True:
            data = stream.read1(CHUNK)
            if not data:
                break
            stdin.write(data)
            stdin.flush()
        stdin.close()


def _pass_on(source: IO[bytes], channel: socket.socket, kind: bytes, sending: threading.Lock) -> None:
    while True:
        data = os.read(source.fileno(), CHUNK)
        if not data:
            return
        with sending:
            _frame(channel, kind, data)


def _frame(channel: socket.socket, kind: bytes, payload: bytes) -> None:
    channel.sendall(HEADER.pack(kind, len(payload)) + payload)


@contextlib.contextmanager
def opened(root: str) -> Iterator[str]:
    """Serve `root` while the context lasts; yield the path of the socket."""
    # Of a fixed short place: the path of a socket may have about 100 bytes.
    with tempfile.TemporaryDirectory(prefix="ascend-fleet-", dir="/tmp") as folder:
        outlet = Outlet(root, os.path.join(folder, "outlet"))
        try:
            yield outlet.path
        finally:
            outlet.close()
