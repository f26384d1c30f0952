# SPDX-License-Identifier: GPL-3.0-or-later
"""Pull files through a transfer grant: over rsync, or over a tar stream where one of the two sides has no rsync.

Both resume: a file that is there in part is asked for from its end on. Neither is trusted: the caller hashes what arrived.
"""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from typing import Any, Iterator, List, Mapping, Sequence, Tuple

from .courier import LOST_STATUS
from .errors import CommandError, FleetError, InputError
from .host import Host
from .manifest import FileEntry
from .serve import TAR_REQUEST

ALIAS = "fleet-source"
# A request is one word of a command line for the login shell of the other side, which may have at most 128 KiB.
REQUEST_LIMIT = 60_000  # bytes
# Before 3.2.4 rsync gave names with other characters to the far shell as they are: such files go by tar.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_./+=@,%-]+")
STREAM_CHUNK = 256 * 1024  # bytes; what a connection that breaks costs at most
# Of rsync, and of ssh or the courier: the connection broke; what arrived is kept.
LOST_STATUSES = (10, 12, 30, 35, LOST_STATUS)


@dataclass(frozen=True)
class Source:
    """Where a grant is good: the serving host, how to recognise it, and the directory there."""

    name: str
    address: str
    port: int
    user: str
    host_keys: Sequence[str]
    private_key: str
    root: str
    rsync: bool
    # Where this is given the source is the controller, reached through this socket instead of ssh.
    socket: str = ""

    @property
    def where(self) -> str:
        """The serving side in words."""
        if self.socket:
            return f"{self.name} (the controller, through Ansible's connection)"
        return f"{self.name} ({self.user}@{self.address}, port {self.port})"

    @classmethod
    def from_params(cls, values: Mapping[str, Any]) -> Source:
        """Read the module's option `source`; InputError names what it lacks."""
        needed = ("root",) if values.get("socket") else ("address", "user", "host_keys")
        lacking = [key for key in needed if not values.get(key)]
        if lacking:
            raise InputError(
                f"The source {values.get('name')} is given without {', '.join(lacking)}.",
                "Take them from transfer_grant.",
            )
        return cls(
            name=values.get("name") or values["address"],
            address=values["address"],
            port=values["port"],
            user=values["user"],
            host_keys=list(values["host_keys"]),
            private_key=values["private_key"],
            root=values["root"],
            rsync=values["rsync"],
            socket=values.get("socket") or "",
        )


class ConnectionLost(FleetError):
    """The connection broke after it had been made; asking again goes on where it ended."""


class TurnedAway(ConnectionLost):
    """The serving host's sshd closed the connection before it asked who is there: it has too many at a time. Asking later helps."""


@contextlib.contextmanager
def session(source: Source) -> Iterator[str]:
    """Write an ssh configuration with key and pinned host keys into a private directory that goes away with the session."""
    with tempfile.TemporaryDirectory(prefix="ascend-fleet-") as folder:
        key, known, config = (os.path.join(folder, name) for name in ("key", "known_hosts", "config"))
        _write_private(key, source.private_key.rstrip("\n") + "\n")
        _write_private(known, "".join(f"{ALIAS} {line}\n" for line in source.host_keys))
        _write_private(config, ssh_config(source, key, known))
        yield config


@contextlib.contextmanager
def remote_shell(host: Host, source: Source) -> Iterator[List[str]]:
    """Yield the words before host and request: ssh with a key of the run, or the courier to the controller."""
    if not source.socket:
        with session(source) as config:
            yield ["ssh", "-F", config]
        return
    with tempfile.TemporaryDirectory(prefix="ascend-fleet-") as folder:
        yield [sys.executable, "-I", install_source(host, "courier.py", folder), source.socket]


def install_source(host: Host, name: str, directory: str) -> str:
    """Put a program of this package where others can start it; return its path. Written only when it differs."""
    data = pkgutil.get_data(__package__ or "", name)
    if data is None:
        raise FleetError(f"The source of {name} is not part of this module.", "Install ascend-fleet completely.")
    path = os.path.join(directory, name)
    if host.read_text(path) != data.decode("utf-8"):
        host.write_text(path, data.decode("utf-8"), mode=0o755)
    return path


def ssh_config(source: Source, key: str, known_hosts: str) -> str:
    """Return the whole configuration of the connection; nothing of the user's own takes part."""
    settings = [
        ("HostName", source.address),
        ("Port", str(source.port)),
        ("User", source.user),
        ("HostKeyAlias", ALIAS),
        ("IdentityFile", key),
        ("IdentitiesOnly", "yes"),
        ("IdentityAgent", "none"),
        ("UserKnownHostsFile", known_hosts),
        ("GlobalKnownHostsFile", "/dev/null"),
        ("StrictHostKeyChecking", "yes"),
        ("UpdateHostKeys", "no"),
        ("BatchMode", "yes"),
        ("PreferredAuthentications", "publickey"),
        ("ConnectTimeout", "20"),
        ("ServerAliveInterval", "15"),
        ("ServerAliveCountMax", "4"),
        ("LogLevel", "ERROR"),
    ]
    return f"Host {ALIAS}\n" + "".join(f"  {name} {value}\n" for name, value in settings)


def pull(host: Host, source: Source, files: Mapping[str, FileEntry], target: str, method: str) -> str:
    """Bring files (relative path -> entry) into the directory `target`; return the method used: rsync, tar or both.

    Raises ConnectionLost, or FleetError with host and remedy for everything that asking again would not help.
    """
    if not files:
        return "none"
    by_rsync = sorted(path for path in files if method == "rsync" and PLAIN_NAME.fullmatch(path))
    by_tar = sorted(path for path in files if path not in set(by_rsync))
    with remote_shell(host, source) as shell:
        for batch in batches(by_rsync):
            _pull_rsync(host, source, shell, batch, target)
        if by_tar:
            _pull_tar(host, source, shell, by_tar, files, target)
    return "+".join([name for name, used in (("rsync", by_rsync), ("tar", by_tar)) if used])


def choose_method(host: Host, source: Source, wish: str) -> str:
    """Return rsync where both sides have it, else tar."""
    if wish == "tar":
        return "tar"
    here = host.which("rsync") is not None
    if here and source.rsync:
        return "rsync"
    if wish == "rsync":
        place = f"the serving host {source.name}" if here else "this host"
        raise InputError(
            f"rsync is asked for, but {place} has none.", "Install rsync there, or use the method auto or tar."
        )
    return "tar"


def batches(paths: Sequence[str], limit: int = REQUEST_LIMIT) -> Iterator[List[str]]:
    """Cut a list of paths such that each part fits into one request."""
    batch: List[str] = []
    length = 0
    for path in paths:
        if batch and length + len(path) + 1 > limit:
            yield batch
            batch, length = [], 0
        batch.append(path)
        length += len(path) + 1
    if batch:
        yield batch


def rsync_command(shell: Sequence[str], paths: Sequence[str], target: str) -> List[str]:
    """Return the rsync call. `append-verify` goes on at the end of what is there and checks the whole file."""
    first, *rest = paths
    return [
        "rsync",
        "--relative",
        "--no-implied-dirs",
        "--copy-links",
        "--times",
        "--append-verify",
        "--rsh",
        " ".join(shell),  # no word of it has a blank
        f"{ALIAS}:{first}",
        *[f":{path}" for path in rest],
        target.rstrip("/") + "/",
    ]


def _pull_rsync(host: Host, source: Source, shell: Sequence[str], paths: Sequence[str], target: str) -> None:
    for path in paths:
        host.make_dirs(os.path.dirname(os.path.join(target, path)))
    done = host.run(rsync_command(shell, paths, target), check=False)
    if done.rc != 0:
        raise explain(source, done.argv, done.rc, done.stderr)


def _pull_tar(
    host: Host,
    source: Source,
    shell: Sequence[str],
    paths: Sequence[str],
    files: Mapping[str, FileEntry],
    target: str,
) -> None:
    """Ask for each file from the end of what is there on, and append what comes."""
    offsets = {path: _size(host, os.path.join(target, path)) for path in paths}
    request = json.dumps({"files": [[path, offsets[path]] for path in paths]}).encode()
    argv = [*shell, ALIAS, TAR_REQUEST]
    # stderr goes to a file: a pipe nobody reads while the stream is unpacked could fill up and stop the other side.
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said) as process:
            problem = _unpack(process, request, offsets, files, target)
        said.seek(0)
        stderr = said.read().decode("utf-8", errors="replace")
    if process.returncode != 0 or problem:
        raise explain(source, argv, process.returncode, stderr or problem)


def _unpack(
    process: subprocess.Popen[bytes],
    request: bytes,
    offsets: Mapping[str, int],
    files: Mapping[str, FileEntry],
    target: str,
) -> str:
    """Send the request and store the stream; return what stopped it, if something did."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process needs both pipes")
    try:
        process.stdin.write(request)
        process.stdin.close()
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if member.name not in offsets or not member.isreg():
                    return f"the serving host sent {member.name!r}, which nobody asked for"
                _store(
                    archive, member, os.path.join(target, member.name), offsets[member.name], files[member.name].size
                )
    except (BrokenPipeError, tarfile.ReadError, EOFError) as error:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        return f"the stream ended early ({error})"
    except OSError as error:
        process.kill()
        raise FleetError(f"{target} cannot be written ({error.strerror}).", "Make room on that file system.") from error
    return ""


def _store(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, offset: int, size: int) -> None:
    """Append a member to its file, at most up to the size it must have."""
    stream = archive.extractfile(member)
    if stream is None:
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    left = size - offset
    with open(path, "ab") as output:
        while left > 0:
            chunk = stream.read(min(STREAM_CHUNK, left))
            if not chunk:
                break
            output.write(chunk)
            left -= len(chunk)


def explain(source: Source, argv: Sequence[str], rc: int, stderr: str) -> FleetError:
    """Turn what ssh, rsync or the serving program said into an error that names host and remedy."""
    where = source.where
    for mark, problem, remedy in _KNOWN:
        found = mark.search(stderr)
        if found is not None:
            words = {"where": where, "said": _line(mark, stderr), "source": source, **found.groupdict()}
            return FleetError(problem.format(**words), remedy.format(**words))
    if _TURNED_AWAY.search(stderr):
        return TurnedAway(
            f"sshd of {where} closes new connections at once: {stderr.strip()[-500:]}",
            f"Let fewer hosts fetch at the same time (artifact_transfer_at_once), or raise MaxStartups in sshd_config on {source.name}.",
        )
    if rc in LOST_STATUSES or "ended early" in stderr:
        return ConnectionLost(
            f"The connection to {where} broke: {stderr.strip()[-500:]}",
            "Run again; what arrived is kept and not sent twice.",
        )
    return CommandError(argv, rc, "", stderr, remedy="" if source.socket else f"Look at sshd's log on {source.name}.")


# What ssh says when sshd's MaxStartups (by default ten that have not logged in yet), or since OpenSSH 9.8 a penalty, turns it away.
_TURNED_AWAY = re.compile(r"(?:kex|ssh)_exchange_identification:|Exceeded MaxStartups|Not allowed at this time")
_KNOWN: Sequence[Tuple[re.Pattern[str], str, str]] = (
    (
        re.compile(
            r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED|No .* host key is known", re.IGNORECASE
        ),
        "The host that answers as {where} shows another host key than the serving host itself reported. Nothing was fetched.",
        "Check that address {source.address} and port {source.port} lead to {source.name} from this host (artifact_transfer_address).",
    ),
    (
        re.compile(r"Permission denied \([a-z]"),
        "{where} does not accept the key of this run.",
        "On {source.name}, see that sshd allows PubkeyAuthentication for {source.user} (AllowUsers, PermitRootLogin, AuthorizedKeysFile).",
    ),
    (
        re.compile(
            r"Connection refused|Connection timed out|No route to host|Network is unreachable|Could not resolve",
            re.IGNORECASE,
        ),
        "This host cannot reach {where}: {said}",
        "Give an address of {source.name} that this host reaches (artifact_transfer_address), or open the port.",
    ),
    (
        re.compile(r"can't open file '(?P<folder>[^'\n]*)/serve\.py'.*"),
        "{where} cannot start the program that serves the files, which is in {folder}: {said}",
        "On {source.name}, let user {source.user} enter {folder} and every directory above it (chmod 755), or give another "
        "artifact_transfer_program_dir; then run again.",
    ),
    (
        re.compile(r"ascend-fleet refused: .*"),
        "{where} did not serve what was asked for: {said}",
        "See that user {source.user} can read {source.root} on {source.name}.",
    ),
    (
        re.compile(r".*No space left on device.*"),
        "The file system of this host ran full while files came from {where}: {said}",
        "Make room below the work root and run again; what arrived is kept and not sent twice.",
    ),
)


def _line(mark: re.Pattern[str], text: str) -> str:
    return next((line.strip() for line in text.splitlines() if mark.search(line)), "")


def _size(host: Host, path: str) -> int:
    found = host.stat(path)
    return found.st_size if found else 0


def _write_private(path: str, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
