# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing the lab up and taking it down, each a comparison of what should be with what is."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path

from lab import hosts, images, keys, network, staging
from lab.hosts import HOSTS, Plan
from lab.shell import CLONE, LAB, REHEARSAL, SITE_PACKAGES, STATE, LabError, attempt, say

ADDRESSES = STATE / "address"
COMMITS = STATE / "commits.json"


def need_engine() -> None:
    """Raise unless the Docker engine answers."""
    done = attempt(["docker", "version", "--format", "{{.Server.Version}}"])
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()
        raise LabError(f"the Docker engine does not answer; run `make setup`, which starts it ({reason})")


def up() -> bool:
    """Make the lab what it should be; return whether anything had to be done."""
    need_engine()
    if not SITE_PACKAGES.is_dir():
        command = "python3 scripts/setup rehearsal" if REHEARSAL else "make venv"
        raise LabError(f"{SITE_PACKAGES} is missing; run `{command}`, because the lab's containers compute with it")
    names = [host.name for host in HOSTS]
    keys.ensure(names)
    with ThreadPoolExecutor(max_workers=2) as pool:
        building = pool.submit(images.ensure, "server", "staging")
        content = staging.ensure()
        tags = building.result()
    subnet = network.current_subnet()
    if subnet is not None:
        plan = _plan(subnet, tags, content)
        if not _stale(plan):
            _write_state(plan, content)
            return False
    _replace(tags, content)
    return True


def _plan(subnet: IPv4Network, tags: dict[str, str], content: list[staging.Piece]) -> Plan:
    held = " ".join(f"{piece.name}-{piece.key}" for piece in content)
    return Plan(subnet, tags, {host.name: held for host in HOSTS if host.image == "staging"})


def _stale(plan: Plan) -> list[hosts.Host]:
    """Hosts that are not running as the plan says, or do not answer."""
    running = hosts.running_specs()
    return [
        host
        for host in HOSTS
        if running.get(host.name) != hosts.spec(host, plan) or not hosts.port_answers(plan.address(host))
    ]


def _replace(tags: dict[str, str], content: list[staging.Piece]) -> None:
    """Make the hosts that differ anew, others stay as they are."""
    found = hosts.all_containers()
    _remove_orphans(found)
    plan = _plan(network.ensure(), tags, content)
    stale = _stale(plan)
    hosts.remove([host.container for host in stale if host.container in found])
    say(f"starting {', '.join(host.name for host in stale)}")
    for host in stale:
        hosts.create(host, plan)
        if host.image == "staging":
            staging.deliver(host.container, content)
    hosts.start(stale, plan)
    _write_state(plan, content)


def _write_state(plan: Plan, content: list[staging.Piece]) -> None:
    """Write what ssh and the inventory read: known host keys, one address file per host, the commits to pin."""
    addresses = plan.addresses()
    pins = json.dumps(staging.pinned_commits(content), indent=1)
    wanted = {keys.KNOWN_HOSTS: keys.known_hosts_text(addresses)}
    wanted[COMMITS] = f"{pins}\n"
    wanted |= {ADDRESSES / name: f"{address}\n" for name, address in addresses.items()}
    for path, text in wanted.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _remove_orphans(found: dict[str, str]) -> None:
    """Remove the labs of clones that are no longer there, since nobody else would."""
    for clone in sorted({clone for clone in found.values() if _is_gone(clone)}):
        say(f"removing the lab of {clone or 'an unknown clone'}, which is gone")
        names = [name for name, maker in found.items() if maker == clone]
        hosts.remove(names)
        for lab in {name.removesuffix(f"-{host.name}") for name in names for host in HOSTS if name.endswith(host.name)}:
            network.remove(lab)


def _is_gone(clone: str) -> bool:
    """True when there is no such directory any more; one that this user may not look into is not gone."""
    try:
        Path(clone, "lab").stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except PermissionError:
        return False
    return False


def down() -> None:
    """Remove every trace of this clone's lab on this machine except images and caches."""
    need_engine()
    found = sorted(name for name in hosts.all_containers() if name.startswith(f"{LAB}-"))
    if found:
        say(f"removing {', '.join(found)}")
    hosts.remove(found)
    hosts.remove_volumes(host.volume for host in HOSTS)
    network.remove()
    shutil.rmtree(STATE, ignore_errors=True)


def clean() -> None:
    """As down, and the images and cached content too."""
    down()
    images.remove_all()
    staging.remove_cached()


def status() -> str:
    """The lab as a JSON text: every host's address, and whether it runs and answers."""
    need_engine()
    running = hosts.running_specs()
    rows = {}
    for host in HOSTS:
        path = ADDRESSES / host.name
        address = path.read_text(encoding="utf-8").strip() if path.is_file() else None
        answers = address is not None and hosts.port_answers(address)
        rows[host.name] = {"address": address, "running": host.name in running, "answers": answers}
    return json.dumps({"clone": str(CLONE), "hosts": rows}, indent=2)
