# SPDX-License-Identifier: GPL-3.0-or-later
"""Transfer grants: for one run, one key that can read one directory and do nothing else.

A grant is one line in the login user's authorized_keys: `restrict`, an expiry time and a forced command. It is taken away at the end
of the transfer; should that never happen (a controller without power), sshd ignores the line from its expiry time on, and the
next grant on that host removes it.
"""

from __future__ import annotations

import glob
import os
import pwd
import re
import secrets
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from .errors import FleetError, InputError
from .host import Host
from .outcome import Outcome
from .serve import SAFE_PATH
from .transfer import install_source

MARK = "ascend-fleet"
PROGRAM = "serve.py"
OURS = re.compile(r"(?P<options>.*) ssh-ed25519 \S+ ascend-fleet (?P<id>[A-Za-z0-9_.:-]+)\s*")
EXPIRY = re.compile(r'expiry-time="(?P<time>[0-9]{14})"')
TIME_FORMAT = "%Y%m%d%H%M%S"  # local time of the serving host, as sshd reads it


@dataclass(frozen=True)
class Account:
    """The user that receivers log in as, and the file that says with which keys."""

    name: str
    uid: int
    gid: int
    authorized_keys: str


def manage_grant(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Action of the module transfer_grant; `params` are its options."""
    account = find_account(params["login_user"], params["authorized_keys"])
    if params["state"] == "absent":
        return close_grant(host, account, params["id"], check_mode)
    return open_grant(host, account, params, check_mode)


def find_account(login_user: str, authorized_keys: str) -> Account:
    """Return the account to write to; without a name it is the user who logged in (before become)."""
    name = login_user or os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise InputError(f"There is no user {name} on the serving host.", "Give login_user.") from None
    path = authorized_keys or os.path.join(entry.pw_dir, ".ssh", "authorized_keys")
    return Account(name, entry.pw_uid, entry.pw_gid, os.path.realpath(path))


def open_grant(host: Host, account: Account, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Add a line for a new key and return the key, where to come and how to recognise this host."""
    root = os.path.realpath(params["root"])
    if not host.is_dir(root):
        raise InputError(
            f"{params['root']} is not a directory on the serving host.", "Grant the directory of the artifact."
        )
    grant_id = params["id"] or secrets.token_hex(8)
    outcome = Outcome(changed=True, actions=[f"let user {account.name} be used to read {root}"])
    outcome.values = {"id": grant_id, "user": account.name, "root": root, "port": params["port"]}
    outcome.before, outcome.after = {"grant": None}, {"grant": {"root": root, "user": account.name}}
    if check_mode:
        return outcome
    outcome.values["host_keys"] = host_keys(host, params["host_key_files"])
    private, public = make_key_pair(host, f"{MARK} {grant_id}")
    program = install_program(host, params["program_dir"])
    line = grant_line(program, root, public, time.time() + params["lifetime"])
    edit_lines(host, account, remove=grant_id, add=line)
    outcome.values["private_key"] = private
    outcome.values["rsync"] = _serves_rsync(host)
    return outcome


def install_program(host: Host, folder: str) -> str:
    """Put the serving program where the login user can start it; return its path."""
    program = install_source(host, PROGRAM, folder)
    # Made under a strict umask by an earlier version it kept the login user out. Where it holds other things it is not ours to open.
    if all(name == PROGRAM or name.startswith(".new-") for name in host.list_dir(folder)):
        host.let_in(folder)
    return program


def close_grant(host: Host, account: Account, grant_id: str, check_mode: bool) -> Outcome:
    """Take the line of this grant away, and expired ones of earlier runs."""
    removed = edit_lines(host, account, remove=grant_id, add=None, check_mode=check_mode)
    outcome = Outcome(changed=bool(removed), values={"id": grant_id, "user": account.name, "removed": removed})
    outcome.actions = [f"end grant {name}" for name in removed]
    outcome.before, outcome.after = {"grants": removed}, {"grants": []}
    return outcome


def grant_line(program: str, root: str, public_key: str, expires: float) -> str:
    """Return the line of authorized_keys; `expires` in seconds since the epoch."""
    command = " ".join(
        shlex.quote(word) for word in [sys.executable or "/usr/bin/python3", "-I", program, "--root", root]
    )
    quoted = command.replace("\\", "\\\\").replace('"', '\\"')
    expiry = time.strftime(TIME_FORMAT, time.localtime(expires))
    return f'restrict,expiry-time="{expiry}",command="{quoted}" {public_key.strip()}'


def edit_lines(host: Host, account: Account, remove: str, add: Optional[str], check_mode: bool = False) -> List[str]:
    """Rewrite authorized_keys in one step and return the ids of the grants that are gone. Foreign lines stay as they are."""
    text = _read_bytes_as_text(account.authorized_keys)
    now = time.strftime(TIME_FORMAT)
    kept: List[str] = []
    removed: List[str] = []
    for line in text.splitlines(keepends=True):
        name = _grant_to_remove(line, remove, now)
        if name is None:
            kept.append(line)
        else:
            removed.append(name)
    if add is not None:
        if kept and not kept[-1].endswith("\n"):
            kept[-1] += "\n"
        kept.append(add + "\n")
    new = "".join(kept)
    if new != text and not check_mode:
        _write_as_owner(account, new)
    return removed


def make_key_pair(host: Host, comment: str) -> List[str]:
    """Make an ed25519 key pair and return its private and public half; nothing of it stays on the disk."""
    with tempfile.TemporaryDirectory(prefix="ascend-fleet-") as folder:
        path = os.path.join(folder, "key")
        host.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path],
            remedy="Install the OpenSSH client.",
        )
        halves = [host.read_text(path), host.read_text(f"{path}.pub")]
    return [half for half in halves if half]


def host_keys(host: Host, patterns: List[str]) -> List[str]:
    """Return this host's public ssh keys as `type base64`, for the receivers' pinned known_hosts."""
    paths = sorted(path for pattern in patterns for path in glob.glob(pattern))
    keys = [" ".join((host.read_text(path) or "").split()[:2]) for path in paths]
    if not any(keys):
        raise FleetError(
            f"No ssh host key was found on the serving host ({', '.join(patterns)}).",
            "Start sshd there once, or name the .pub files of its host keys.",
        )
    return [key for key in keys if key]


def _grant_to_remove(line: str, grant_id: str, now: str) -> Optional[str]:
    """Return the id of a line of ours that is asked for or has expired; None for every other line."""
    ours = OURS.fullmatch(line)
    if ours is None:
        return None
    expiry = EXPIRY.search(ours.group("options"))
    expired = expiry is not None and expiry.group("time") <= now
    return ours.group("id") if expired or ours.group("id") == grant_id else None


def _read_bytes_as_text(path: str) -> str:
    """Read a file such that writing the text again gives the same bytes, whatever encoding its comments have."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def _write_as_owner(account: Account, text: str) -> None:
    """Replace authorized_keys atomically; mode and owner stay, a new file belongs to the account alone."""
    folder = os.path.dirname(account.authorized_keys)
    if not os.path.isdir(folder):
        os.makedirs(folder, mode=0o700)
        os.chown(folder, account.uid, account.gid)
    try:
        old = os.stat(account.authorized_keys)
        mode, uid, gid = old.st_mode & 0o777, old.st_uid, old.st_gid
    except FileNotFoundError:
        mode, uid, gid = 0o600, account.uid, account.gid
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".authorized_keys-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            os.fchown(handle, uid, gid)
            os.fchmod(handle, mode)
            stream.write(text)
            stream.flush()
            os.fsync(handle)
        os.replace(temporary, account.authorized_keys)
    except BaseException:
        os.unlink(temporary)
        raise


def _serves_rsync(host: Host) -> bool:
    return any(host.is_file(os.path.join(folder, "rsync")) for folder in SAFE_PATH.split(":"))
