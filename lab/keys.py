# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys made for the lab: one that the controller logs in with, and a host key for every host, known from the start."""

from __future__ import annotations

from pathlib import Path

from lab.shell import STATE, run

DIRECTORY = STATE / "ssh"
LOGIN_KEY = DIRECTORY / "id_ed25519"
KNOWN_HOSTS = DIRECTORY / "known_hosts"


def host_key(name: str) -> Path:
    """Where the private half of a host's key is kept."""
    return DIRECTORY / "hosts" / name / "ssh_host_ed25519_key"


def ensure(names: list[str]) -> None:
    """Make every key that is missing, readable by this user alone."""
    _make(LOGIN_KEY, "ascend-lab controller")
    for name in names:
        _make(host_key(name), f"ascend-lab {name}")


def _make(path: Path, comment: str) -> None:
    if path.exists() and public(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])


def public(path: Path) -> str:
    """The public half as one line; empty when the file is missing."""
    half = path.with_name(f"{path.name}.pub")
    return half.read_text(encoding="utf-8").strip() if half.is_file() else ""


def known_hosts_text(addresses: dict[str, str]) -> str:
    """The known_hosts file for hosts at these addresses, each by name and by address."""
    lines = []
    for name, address in sorted(addresses.items()):
        kind, key = public(host_key(name)).split()[:2]
        lines.append(f"{name},{address} {kind} {key}\n")
    return "".join(lines)


def ssh_arguments() -> list[str]:
    """Options for ssh to a lab host as the lab's own key holder, host keys checked against the lab's list."""
    options = {
        "IdentityFile": LOGIN_KEY,
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": KNOWN_HOSTS,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
    }
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
