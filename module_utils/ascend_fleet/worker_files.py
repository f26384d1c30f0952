# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the worker programs on a server equal to those of the controller's checkout."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Dict, Mapping

from .container_worker import WORKERS
from .errors import InputError
from .host import Host
from .outcome import Outcome

SUFFIX = ".py"


def deliver_workers(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Action of the module worker_bundle: `params` are `work_root` and `files` (name -> text)."""
    files: Mapping[str, str] = params["files"] or {}
    _check_names(files)
    root = os.path.join(params["work_root"], WORKERS)
    there = {
        name: host.read_text(os.path.join(root, name)) or "" for name in host.list_dir(root) if name.endswith(SUFFIX)
    }
    write = sorted(name for name in files if there.get(name) != files[name])
    remove = sorted(name for name in there if name not in files)
    outcome = Outcome(changed=bool(write or remove), values={"directory": root, "files": len(files)})
    outcome.values["fingerprint"] = _digest(
        "".join(f"{name}\0{_digest(text)}\n" for name, text in sorted(files.items()))
    )
    # Hashes stand in for the programs: a first delivery would else print all of them.
    outcome.before = {name: _digest(there[name]) for name in sorted({*write, *remove}) if name in there}
    outcome.after = {name: _digest(files[name]) for name in write}
    outcome.actions = [f"write {name}" for name in write] + [f"remove {name}" for name in remove]
    if check_mode:
        return outcome
    for name in write:
        host.write_text(os.path.join(root, name), files[name])
    for name in remove:
        host.remove(os.path.join(root, name))
    return outcome


def _check_names(files: Mapping[str, str]) -> None:
    odd = sorted(name for name in files if os.path.basename(name) != name or not name.endswith(SUFFIX))
    if odd or not files:
        raise InputError(
            f"The worker programs are given as {', '.join(odd) or 'nothing'}.",
            "Give the .py files of workers/, by name.",
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
