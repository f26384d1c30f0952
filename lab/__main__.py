# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m lab up|down|clean|status|ssh`: the lab's hosts from the command line."""

from __future__ import annotations

import argparse
import os
import sys
import time

from lab import keys, up
from lab.hosts import HOSTS
from lab.shell import LabError, exclusive, say


def main() -> int:
    """Do what the command line asks; a LabError becomes a message and status 1."""
    options = _parser().parse_args()
    try:
        return int(options.act(options))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description="Simulated Ascend servers on this machine.")
    commands = parser.add_subparsers(required=True, metavar="up|down|clean|status|ssh")
    for name, act, text in (
        ("up", _up, "bring the lab up; a running lab that is as it should be is left alone"),
        ("down", _down, "remove hosts, volumes, network and state"),
        ("clean", _clean, "down, and remove the images"),
        ("status", _status, "print the hosts as JSON"),
    ):
        commands.add_parser(name, help=text).set_defaults(act=act)
    ssh = commands.add_parser("ssh", help="open a shell on a host, or run a command there")
    ssh.add_argument("host", choices=[host.name for host in HOSTS])
    ssh.add_argument("command", nargs=argparse.REMAINDER, help="words of the command; none opens a shell")
    ssh.set_defaults(act=_ssh)
    return parser


def _up(_options: argparse.Namespace) -> int:
    begun = time.monotonic()
    with exclusive():
        changed = up.up()
    say(f"{'up' if changed else 'already up'} ({time.monotonic() - begun:.1f} s): {', '.join(h.name for h in HOSTS)}")
    return 0


def _down(_options: argparse.Namespace) -> int:
    with exclusive():
        up.down()
    return 0


def _clean(_options: argparse.Namespace) -> int:
    with exclusive():
        up.clean()
    return 0


def _status(_options: argparse.Namespace) -> int:
    print(up.status())
    return 0


def _ssh(options: argparse.Namespace) -> int:
    address = up.ADDRESSES / options.host
    if not address.is_file():
        raise LabError(f"{options.host} has no address: the lab is not up; run `make lab-up`")
    target = f"root@{address.read_text(encoding='utf-8').strip()}"
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    os.execvp("ssh", ["ssh", *keys.ssh_arguments(), target, *words])


if __name__ == "__main__":
    sys.exit(main())
