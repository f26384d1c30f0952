# SPDX-License-Identifier: GPL-3.0-or-later
"""Serving program of a transfer grant: the forced command behind a key that is good for reading one directory.

`transfer_grant` installs this file by itself on the serving host, so it imports nothing of this package. sshd starts it with what
the other side asked for in SSH_ORIGINAL_COMMAND. Two requests are understood, everything else is refused:

- `rsync --server --sender <options of the list below> . <relative paths>`: rsync is started with exactly these;
- `ascend-fleet-tar`, with `{"files": [[path, offset], ...]}` on stdin: a tar stream in which each file begins at its offset.

A path is served when it is a regular file that lies below the root after all links are followed. One exception has a name: a
snapshot of a Hugging Face cache consists of links into the `blobs` directory of the same model.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import stat
import sys
import tarfile
from typing import IO, List, NamedTuple, NoReturn, Sequence, Tuple

TAR_REQUEST = "ascend-fleet-tar"
REFUSED_STATUS = 77  # ends the ssh client with a status that no tool here uses by itself
SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What `transfer.py` makes rsync send, from protocol 30 (3.0) on; the letters after `e` are the client's capabilities.
RSYNC_SHORT = re.compile(r"-[LRWtv]*(e[0-9]*\.[0-9]*[A-Za-z]*)?")
RSYNC_LONG = re.compile(r"--(append|inplace|no-implied-dirs|timeout=[0-9]+)")
HUB_SNAPSHOT = re.compile(r"(?P<model>.*/models--[^/]+)/snapshots/[^/]+")


class Refused(Exception):
    """The request is not one that the grant covers."""


class Wanted(NamedTuple):
    """A file to send, from this byte on."""

    path: str
    offset: int


def allowed_roots(root: str) -> List[str]:
    """Return the real directories in which a served file may lie."""
    real = os.path.realpath(root)
    snapshot = HUB_SNAPSHOT.fullmatch(real)
    return [real, os.path.join(snapshot.group("model"), "blobs")] if snapshot else [real]


def is_below(path: str, roots: Sequence[str]) -> bool:
    """Say whether a path, all links followed, lies below one of the (real) roots."""
    real = os.path.realpath(path)
    return any(real.startswith(root.rstrip("/") + "/") for root in roots)


def resolve(root: str, relative: str) -> str:
    """Return the path of a file that may be served; Refused names the reason for any other."""
    if os.path.isabs(relative) or ".." in relative.split("/") or "\0" in relative:
        raise Refused(f"{relative!r} is not a path below the granted directory")
    full = os.path.join(root, relative)
    if not is_below(full, allowed_roots(root)):
        raise Refused(f"{relative!r} leads out of the granted directory")
    try:
        found = os.stat(full)
    except OSError as error:
        raise Refused(f"{relative!r} cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"{relative!r} is not a regular file")
    if not os.access(full, os.R_OK):
        raise Refused(f"{relative!r} cannot be read by the user that the receivers log in as")
    return full


def rsync_command(words: Sequence[str], root: str) -> List[str]:
    """Check a request of an rsync client and return the argument list to start."""
    if list(words[:3]) != ["rsync", "--server", "--sender"]:
        raise Refused("rsync may only send")
    rest = list(words[3:])
    if "." not in rest:
        raise Refused("the request of the rsync client is not complete")
    middle = rest.index(".")
    for option in rest[:middle]:
        if not (RSYNC_SHORT.fullmatch(option) or RSYNC_LONG.fullmatch(option)):
            raise Refused(f"the rsync option {option!r} is not allowed")
    paths = rest[middle + 1 :]
    for path in paths:
        resolve(root, path)
    return ["rsync", "--server", "--sender", *rest[:middle], ".", *paths]


def tar_files(request: str) -> List[Wanted]:
    """Read the request of a tar client."""
    try:
        return [Wanted(str(path), int(offset)) for path, offset in json.loads(request)["files"]]
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"the request is not understood ({error!r})") from error


def send_tar(root: str, wanted: Sequence[Wanted], output: IO[bytes]) -> None:
    """Write the files as one tar stream; all of them are checked before the first byte."""
    opened: List[Tuple[Wanted, str]] = [(item, resolve(root, item.path)) for item in wanted]
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        for item, full in opened:
            with open(full, "rb") as stream:
                member = tarfile.TarInfo(item.path)
                size = os.fstat(stream.fileno()).st_size
                start = min(max(item.offset, 0), size)
                member.size = size - start
                stream.seek(start)
                archive.addfile(member, stream)


def serve(root: str, request: str) -> None:
    """Answer one request."""
    try:
        words = shlex.split(request)
    except ValueError as error:
        raise Refused(f"the request is not understood ({error})") from error
    if words == [TAR_REQUEST]:
        send_tar(root, tar_files(sys.stdin.buffer.read().decode("utf-8")), sys.stdout.buffer)
        return
    if not words or words[0] != "rsync":
        raise Refused("this key is good for fetching files and nothing else")
    command = rsync_command(words, root)
    os.chdir(root)
    try:
        os.execvpe("rsync", command, {"PATH": SAFE_PATH, "LC_ALL": "C"})
    except OSError as error:
        raise Refused(f"rsync cannot be started ({error.strerror})") from error


def refuse(reason: str) -> NoReturn:
    """Tell the other side why, on stderr, and end."""
    sys.stderr.write(f"ascend-fleet refused: {reason}\n")
    sys.exit(REFUSED_STATUS)


def main() -> None:
    """Serve the request that sshd left in the environment."""
    parser = argparse.ArgumentParser(description="serve the files below one directory to the holder of a transfer key")
    parser.add_argument("--root", required=True)
    root = parser.parse_args().root
    try:
        serve(root, os.environ.get("SSH_ORIGINAL_COMMAND", ""))
    except Refused as refused:
        refuse(str(refused))
    except BrokenPipeError:
        sys.exit(1)  # the receiver went away; it asks again for the rest
    except OSError as error:
        refuse(f"reading stopped ({error})")


if __name__ == "__main__":
    main()
