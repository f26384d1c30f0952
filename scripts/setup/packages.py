# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages that the lab needs on this machine, installed only where their program is missing."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from say import SetupError, need_root, run, say

# Program looked for -> Debian package that brings it.
PROGRAMS = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "debootstrap": "debootstrap",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "rsync": "rsync",
    "iptables": "iptables",
    "ip": "iproute2",
    "git": "git",
    "tar": "tar",
}
PATHS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def find(program: str) -> str | None:
    """A program's path; the sbin directories count even if PATH lacks them."""
    found = shutil.which(program)
    return found or shutil.which(program, path=":".join(PATHS))


def missing() -> list[str]:
    """Packages to install, sorted, each once."""
    wanted = {package for program, package in PROGRAMS.items() if not find(program)}
    if importlib.util.find_spec("ensurepip") is None:
        wanted.add("python3-venv")
    return sorted(wanted)


def _lists_are_empty() -> bool:
    lists = Path("/var/lib/apt/lists")
    return not any(lists.glob("*_Packages*")) if lists.is_dir() else True


def install() -> None:
    """Install what is missing, after saying so; nothing happens on a machine that has it all."""
    packages = missing()
    if not packages:
        return
    if not find("apt-get"):
        raise SetupError(f"missing programs of {', '.join(packages)}, and this machine has no apt-get: install them")
    need_root(f"installing {', '.join(packages)}")
    say(f"installing Debian packages {', '.join(packages)} (a minute or two)")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    install_command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    if _lists_are_empty():
        run(["apt-get", "update", "-q"], quiet)
    try:
        run(install_command, quiet)
    except SetupError:
        say("the package lists may be old: updating them and trying once more")
        run(["apt-get", "update", "-q"], quiet)
        run(install_command, quiet)
