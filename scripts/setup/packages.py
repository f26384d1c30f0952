# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages that a controller, the lab or its tests need on this machine, installed only where their program is missing."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import engine
from say import SetupError, find, run, say

# Program looked for -> Debian package that brings it.
CONTROLLER = {"ssh": "openssh-client", "ssh-keygen": "openssh-client"}
LAB = {
    "docker": "docker.io",
    "debootstrap": "debootstrap",
    "rsync": "rsync",
    "ip": "iproute2",
    "git": "git",
    "tar": "tar",
}
# Needed to start an engine; one that answers may be another build of Docker, or on the far side of a socket.
ENGINE = {"dockerd": "docker.io", "iptables": "iptables"}
# With it Debian's packages are unpacked with their owners even by somebody who is not root.
ORDINARY_USER = {"fakeroot": "fakeroot"}
# What only the tests need: the browser that they open the report's page in, and an sshd that they start on a port of their own.
BROWSER = {"chromium": "chromium"}
SSHD = {"sshd": "openssh-server"}
SYSTEMD = Path("/run/systemd/system")
# Debian's way to install a service without starting it.
NO_START = Path("/usr/sbin/policy-rc.d")


def missing(programs: Mapping[str, str]) -> list[str]:
    """Packages to install for these programs, sorted, each once."""
    return sorted({package for program, package in programs.items() if not find(program)})


def lab_programs() -> dict[str, str]:
    """What the lab needs here: less where an engine answers already, more for a user who is not root."""
    ordinary = ORDINARY_USER if os.geteuid() else {}
    return {**CONTROLLER, **LAB, **ordinary, **({} if engine.answers() else ENGINE)}


def _lists_are_empty() -> bool:
    lists = Path("/var/lib/apt/lists")
    return not any(lists.glob("*_Packages*")) if lists.is_dir() else True


def install() -> None:
    """Install what the lab needs and this machine lacks; nothing happens on a machine that has it all."""
    _install([*missing(lab_programs()), *_python_packages()], "a minute or two")


def install_for_controller() -> None:
    """Install what running the playbooks against real servers needs."""
    _install([*missing(CONTROLLER), *_python_packages()], "a minute")


def install_for_tests() -> None:
    """Install what some tests use beyond the lab, where it is missing."""
    _install(missing(BROWSER), "the browser for the tests of the report, about 100 MB to fetch and 400 MB on disk")
    if missing(SSHD) and SYSTEMD.is_dir():
        say("no sshd here: tests of transfers skip; it is not installed by itself, since it would run from then on")
        return
    with _nothing_started():
        _install(missing(SSHD), "for tests of transfers; it is not started")


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Keep packages from starting their services, where the machine has no rule about that of its own."""
    ours = os.geteuid() == 0 and not NO_START.exists() and bool(missing(SSHD))
    if ours:
        NO_START.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        NO_START.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            NO_START.unlink()


def _python_packages() -> list[str]:
    return [] if importlib.util.find_spec("ensurepip") else ["python3-venv"]


def _install(packages: Sequence[str], what: str) -> None:
    """Install packages after saying so."""
    if not packages:
        return
    if not find("apt-get"):
        raise SetupError(f"missing programs of {', '.join(packages)}, and this machine has no apt-get: install them")
    if os.geteuid():
        raise SetupError(
            f"Debian packages are missing; let root run `apt-get install {' '.join(packages)}`, then run this again"
        )
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
