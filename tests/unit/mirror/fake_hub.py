# SPDX-License-Identifier: GPL-3.0-or-later
"""A model hub on loopback: the requests of the public protocol that downloads use, with faults to order.

A test holds it to the real client (huggingface_hub), which has to be able to download from it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "d" * 40
LARGE = ".safetensors"  # what the hub keeps apart, by SHA-256


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Request:
    """One request for a file: which one, from which byte on, and with whose token."""

    path: str
    start: int
    token: str | None
    host: str


@dataclass
class Hub:
    """The hub and its faults. `sent` counts the bytes of files that went out."""

    repository: str
    files: dict[str, bytes]
    token: str = ""  # needed, where it is not empty
    cut: dict[str, list[int]] = field(default_factory=dict)  # of a file, bytes after which the next answers end
    ranges: bool = True
    busy: int = 0  # so many answers are HTTP 503 first
    storage: str = ""  # host name behind which large files are
    corrupt: str = ""  # a file that arrives with another content
    drip: float = 0.0  # seconds between two kilobytes
    requests: list[Request] = field(default_factory=list)
    sent: int = 0
    counting: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _answer(hub, self)

            def do_HEAD(self) -> None:
                _answer(hub, self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def starts(self, path: str) -> list[int]:
        """Return the first bytes that were asked for of a file, in order."""
        return [request.start for request in self.requests if request.path == path]


def _answer(hub: Hub, request: BaseHTTPRequestHandler) -> None:
    if hub.busy:
        hub.busy -= 1
        return _empty(request, 503)
    path = urlsplit(request.path).path
    if path.startswith("/storage/"):
        return _file(hub, request, path.removeprefix("/storage/"))
    if hub.token and request.headers.get("Authorization") != f"Bearer {hub.token}":
        return _empty(request, 401)
    listing = f"/api/models/{hub.repository}/revision/"
    if path.startswith(listing):
        return _listing(hub, request) if path.removeprefix(listing) in ("main", COMMIT) else _empty(request, 404)
    resolve = f"/{hub.repository}/resolve/{COMMIT}/"
    name = path.removeprefix(resolve)
    if not path.startswith(resolve) or name not in hub.files:
        return _empty(request, 404)
    if hub.storage and name.endswith(LARGE):
        return _empty(
            request, 302, {"Location": f"http://{hub.storage}:{hub.port}/storage/{name}", **_facts(hub, name)}
        )
    return _file(hub, request, name)


def _empty(request: BaseHTTPRequestHandler, code: int, headers: dict[str, str] | None = None) -> None:
    request.send_response(code)
    for key, value in {"Content-Length": "0", **(headers or {})}.items():
        request.send_header(key, value)
    request.end_headers()


def _facts(hub: Hub, name: str) -> dict[str, str]:
    data = hub.files[name]
    digest = sha256(data) if name.endswith(LARGE) else git_blob(data)
    linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))} if name.endswith(LARGE) else {}
    return {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT, **linked}


def _listing(hub: Hub, request: BaseHTTPRequestHandler) -> None:
    siblings = []
    for name, data in hub.files.items():
        entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": git_blob(data)}
        if name.endswith(LARGE):
            entry |= {"blobId": "e" * 40, "lfs": {"sha256": sha256(data), "size": len(data), "pointerSize": 130}}
        siblings.append(entry)
    answer = {"id": hub.repository, "modelId": hub.repository, "sha": COMMIT, "siblings": siblings, "tags": []}
    body = json.dumps(answer).encode()
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def _file(hub: Hub, request: BaseHTTPRequestHandler, name: str) -> None:
    data = hub.files[name]
    asked = request.headers.get("Range", "") if hub.ranges else ""
    start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
    if request.command == "GET":
        hub.requests.append(Request(name, start, request.headers.get("Authorization"), request.headers["Host"]))
    request.send_response(206 if asked else 200)
    for key, value in {**_facts(hub, name), "Content-Length": str(len(data) - start), "Accept-Ranges": "bytes"}.items():
        request.send_header(key, value)
    if asked:
        request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    request.end_headers()
    if request.command == "HEAD":
        return
    body = data[start:] if name != hub.corrupt else bytes(len(data) - start)
    limit = hub.cut[name].pop(0) if hub.cut.get(name) else len(body)
    _send(hub, request, body[:limit])
    if limit < len(body):
        request.close_connection = True


def _send(hub: Hub, request: BaseHTTPRequestHandler, body: bytes) -> None:
    step = 1024 if hub.drip else len(body)
    for at in range(0, len(body), max(step, 1)):
        try:
            request.wfile.write(body[at : at + step])
        except OSError:
            return
        with hub.counting:
            hub.sent += len(body[at : at + step])
        threading.Event().wait(hub.drip)
