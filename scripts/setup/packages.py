# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages that the lab needs on this machine, installed only where their program is missing."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
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
# What only the tests need: the browser that they open the report's page in.
BROWSER = {"chromium": "chromium"}
PATHS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def find(program: str) -> str | None:
    """A program's path; the sbin directories count even if PATH lacks them."""
    found = shutil.which(program)
    return found or shutil.which(program, path=":".join(PATHS))


def missing(programs: Mapping[str, str] = PROGRAMS) -> list[str]:
    """Packages to install for these programs, sorted, each once."""
    return sorted({package for program, package in programs.items() if not find(program)})


def _lists_are_empty() -> bool:
    lists = Path("/var/lib/apt/lists")
    return not any(lists.glob("*_Packages*")) if lists.is_dir() else True


def install() -> None:
    """Install what the lab needs and this machine lacks; nothing happens on a machine that has it all."""
    wanted = missing()
    if importlib.util.find_spec("ensurepip") is None:
        wanted = sorted([*wanted, "python3-venv"])
    _install(wanted, "a minute or two")


def install_browser() -> None:
    """Install the browser that some tests use, where it is missing."""
    _install(missing(BROWSER), "the browser for the tests of the report, about 100 MB to fetch and 400 MB on disk")


def _install(packages: Sequence[str], what: str) -> None:
    """Install packages after saying so."""
    if not packages:
        return
    if not find("apt-get"):
        raise SetupError(f"missing programs of {', '.join(packages)}, and this machine has no apt-get: install them")
    need_root(f"installing {', '.join(packages)}")
    say(f"installing Debian packages {', '.join(packages)} ({what})")
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
