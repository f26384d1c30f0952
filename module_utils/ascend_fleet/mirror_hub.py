# SPDX-License-Identifier: GPL-3.0-or-later
"""The two requests of a model hub that a download needs: which files a revision has, and a file from some byte on.

Spoken with the standard library alone, so that any staging host will do: huggingface_hub would have to be installed there, compares sizes
and no digests, and keeps what it downloads in a layout of its own. The protocol is the public one of huggingface.co and its mirrors.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Callable, Dict, Mapping, Optional

from .errors import FleetError, InputError, UnparsedError, VerificationError
from .host import Host
from .mirror_listing import GIT_BLOB, SHA256, Listing, RemoteFile, matches

TIMEOUT = 60.0  # seconds without a byte
CHUNK = 1024 * 1024  # bytes at most between two looks at the clock
ATTEMPTS = 5  # connections in a row that brought nothing new
PAUSE = 2.0  # seconds before the next one, doubled each time
FORBIDDEN, ABSENT = (401, 403), (404,)
PASSING = (408, 425, 429, 500, 502, 503, 504)  # worth another attempt


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows to the storage behind the hub; the token is the hub's alone."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc:
            new.remove_header("Authorization")
        return new


class Hub:
    """A model hub. Proxies come from the environment, as everywhere."""

    def __init__(self, endpoint: str, token: str = "", sleep: Callable[[float], None] = time.sleep) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.token = token
        self.sleep = sleep
        self.opener = urllib.request.build_opener(_Redirect)

    def listing(self, repository: str, revision: str) -> Listing:
        """Return the files of a revision (a branch, tag or commit) with their digests."""
        name = f"{_quoted(repository)}/revision/{urllib.parse.quote(revision, safe='')}"
        url = f"{self.endpoint}/api/models/{name}?blobs=true"
        text = self._patiently(lambda: self._text(url), f"{repository} at {revision}")
        try:
            data = json.loads(text)
            files = [_file(entry) for entry in data["siblings"]]
            return Listing(str(data["sha"]), sorted(files, key=lambda file: file.path))
        except (ValueError, KeyError, TypeError) as error:
            raise UnparsedError(
                f"{url} did not answer with a list of files and digests ({error!r}).", "Check HF_ENDPOINT."
            ) from error

    def fetch(self, host: Host, repository: str, commit: str, file: RemoteFile, directory: str) -> None:
        """Bring a file below `directory`, from the byte on that an earlier attempt left, and compare its digest."""
        url = f"{self.endpoint}/{_quoted(repository)}/resolve/{commit}/{_quoted(file.path)}"
        target = os.path.join(directory, file.path)
        host.make_dirs(os.path.dirname(target))
        for _ in range(2):  # the second time without what an earlier attempt left
            self._patiently(lambda: self._rest(host, url, file, target), file.path, lambda: _size(target))
            if matches(host, target, file):
                return
            host.remove(target)
        raise VerificationError(
            f"{file.path} arrives with another content than {repository} has at {commit} ({file.algorithm} {file.digest}).",
            "A proxy or a mirror on the way gives out something else: try another HF_ENDPOINT.",
        )

    def _rest(self, host: Host, url: str, file: RemoteFile, target: str) -> None:
        have = _size(target)
        if have > file.size:
            host.remove(target)
            have = 0
        if have == file.size and (have or os.path.exists(target)):
            return
        with self._open(url, {"Range": f"bytes={have}-"} if have else {}) as answer, open(target, "ab") as stream:
            if have and answer.status != http.client.PARTIAL_CONTENT:
                stream.truncate(0)  # it does not know ranges and sends all of it again
            for chunk in iter(lambda: answer.read1(CHUNK), b""):
                stream.write(chunk)
                stream.flush()
        if _size(target) < file.size:
            raise ConnectionError(f"the connection ended after {_size(target)} of {file.size} bytes")

    def _text(self, url: str) -> str:
        with self._open(url, {}) as answer:
            return str(answer.read().decode("utf-8", errors="replace"))

    def _open(self, url: str, headers: Mapping[str, str]) -> Any:
        full = {"User-Agent": "ascend-fleet", "Accept-Encoding": "identity", **headers}
        if self.token:
            full["Authorization"] = f"Bearer {self.token}"
        return self.opener.open(urllib.request.Request(url, headers=full), timeout=TIMEOUT)

    def _patiently(self, attempt: Callable[[], Any], what: str, progress: Callable[[], int] = lambda: 0) -> Any:
        """Try until it succeeds; give up after several connections in a row that brought nothing."""
        idle, before = 0, progress()
        while True:
            try:
                return attempt()
            except urllib.error.HTTPError as error:
                reason = _refusal(error, what, self.endpoint)
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or repr(error)
            idle, before = (idle + 1, before) if progress() <= before else (1, progress())
            if idle >= ATTEMPTS:
                raise FleetError(
                    f"{what} cannot be fetched from {self.endpoint}: {reason}.",
                    "Check HF_ENDPOINT and the way to the internet (https_proxy) and run again: what arrived is kept.",
                )
            self.sleep(PAUSE * 2 ** (idle - 1))


def _refusal(error: urllib.error.HTTPError, what: str, endpoint: str) -> str:
    """Return the reason of an answer that may pass; raise for one that will not."""
    if error.code in PASSING:
        return f"HTTP {error.code} {error.reason}"
    if error.code in FORBIDDEN:
        raise InputError(
            f"{endpoint} does not give out {what} (HTTP {error.code}).",
            "Accept the model's licence on its page and set HF_TOKEN in the environment; a private or mistyped name looks the same.",
        ) from error
    remedy = "Check the repository and its revision." if error.code in ABSENT else "Check HF_ENDPOINT."
    raise InputError(f"{endpoint} answers HTTP {error.code} for {what}.", remedy) from error


def _file(entry: Dict[str, Any]) -> RemoteFile:
    lfs: Optional[Mapping[str, Any]] = entry.get("lfs")
    if lfs:
        return RemoteFile(str(entry["rfilename"]), int(lfs["size"]), SHA256, str(lfs["sha256"]))
    return RemoteFile(str(entry["rfilename"]), int(entry["size"]), GIT_BLOB, str(entry["blobId"]))


def _quoted(path: str) -> str:
    return urllib.parse.quote(path, safe="/")


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0
