# SPDX-License-Identifier: GPL-3.0-or-later
"""The look of a sync: compare what is on this host with the source's manifest, and say what has to come. Touches nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .host import Host
from .manifest import Manifest, compare
from .receipt import WORDS, Store, fingerprint


@dataclass(frozen=True)
class Request:
    """What this host is to have: the stage's artifact with these inputs, of it the files `wanted`."""

    inputs: Mapping[str, Any]
    wanted: Manifest
    directories: Sequence[str]
    parents: Mapping[str, str]
    verify: str


@dataclass(frozen=True)
class Plan:
    """What the look found: `fetch` are files that have to come, `share` those that another artifact here has (path -> path)."""

    name: str
    state: str  # ok | absent | unsealed | damaged | not-current
    fetch: Manifest
    share: Mapping[str, str]
    lines: Sequence[str]


def make_plan(store: Store, request: Request) -> Plan:
    """Look at this host and say what is to be done. Touches nothing."""
    name = fingerprint(request.inputs)
    target = store.path(name)
    receipt = store.read(name)
    sealed = receipt is not None and receipt.fingerprint == name
    if not store.host.is_dir(target):
        needed, lines = sorted(request.wanted.files), ["absent"]
    elif not sealed or receipt is None:
        # Files without a receipt may be whole: only their content can tell.
        found = compare(store.host, target, request.wanted, "content")
        needed, lines = [*found.missing, *found.changed], [WORDS["unsealed"], *found.lines()]
    else:
        needed, lines = _damage(store, target, receipt.outputs, request)
    lines = lines + _lost_directories(store.host, target, request.directories if store.host.is_dir(target) else [])
    state = _state(store, name, sealed, lines)
    fetch = Manifest({path: request.wanted.files[path] for path in sorted(needed)})
    shared = _shareable(store, fetch, name, request.verify)
    rest = Manifest({path: entry for path, entry in fetch.files.items() if path not in shared})
    return Plan(name, state, rest, shared, lines if lines else ([] if state == "ok" else [WORDS.get(state, state)]))


def _damage(store: Store, target: str, outputs: Manifest, request: Request) -> Tuple[List[str], List[str]]:
    """Return files that have to come, and why: not on record, on record with another content, or not as recorded."""
    wanted = request.wanted.files
    stale = sorted(
        path for path in wanted if path not in outputs.files or outputs.files[path].sha256 != wanted[path].sha256
    )
    rest = Manifest({path: outputs.files[path] for path in wanted if path not in set(stale)})
    found = compare(store.host, target, rest, request.verify)
    lines = [f"{'changed at the source' if path in outputs.files else 'missing'}: {path}" for path in stale]
    return sorted([*stale, *found.missing, *found.changed]), lines + found.lines()


def _lost_directories(host: Host, target: str, directories: Sequence[str]) -> List[str]:
    return [f"missing: {path}/" for path in directories if not host.is_dir(os.path.join(target, path))]


def _state(store: Store, name: str, sealed: bool, lines: Sequence[str]) -> str:
    if list(lines) == ["absent"]:
        return "absent"
    if not sealed:
        return "unsealed"
    if lines:
        return "damaged"
    return "ok" if store.current() == name else "not-current"


def _shareable(store: Store, fetch: Manifest, name: str, verify: str) -> Dict[str, str]:
    """Find files of the artifact in use that have the content of a file to fetch (path -> full path there)."""
    current = store.current()
    receipt = store.current_receipt()
    if receipt is None or current is None or current == name:
        return {}
    asked = {entry.sha256 for entry in fetch.files.values()}
    useful = Manifest({path: entry for path, entry in receipt.outputs.files.items() if entry.sha256 in asked})
    root = store.path(current)
    broken = compare(store.host, root, useful, verify)
    whole = {
        entry.sha256: os.path.join(root, path)
        for path, entry in useful.files.items()
        if path not in {*broken.missing, *broken.changed}
    }
    return {path: whole[entry.sha256] for path, entry in fetch.files.items() if entry.sha256 in whole}
