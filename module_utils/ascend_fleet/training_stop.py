# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping what trains on one host."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Tuple

from .errors import FleetError
from .host import Host
from .outcome import Outcome
from .receipt import CURRENT, Store
from .training_inputs import STAGE
from .training_look import own_rank
from .training_start import LOOK_INTERVAL
from .training_status import STOP_FILE, in_words, read_part


def stop(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Ask every run that goes on here to end, and wait until it did (state stopped of module training_job).

    The supervisors end the run on all of its hosts together. A stopped run is resumed by starting it again.
    """
    going = running(host, params["work_root"], params["host"])
    progress = {os.path.basename(folder): in_words(read_part(host, folder, rank).status) for folder, rank in going}
    outcome = Outcome(changed=bool(going), values={"runs": progress})
    if not going:
        return outcome
    outcome.before = dict.fromkeys(progress, "running")
    outcome.after = dict.fromkeys(progress, "stopped")
    outcome.actions = [f"run {name}: stop ({line})" for name, line in progress.items()]
    if check_mode:
        return outcome
    for folder, _ in going:
        host.write_text(os.path.join(folder, STOP_FILE), "")
    limit = time.monotonic() + params["stop_timeout"]
    while running(host, params["work_root"], params["host"]):
        if time.monotonic() > limit:
            raise FleetError(
                f"Training did not end within {params['stop_timeout']} s of being asked to.",
                f"Look at the processes in container {params['container']}; `docker restart` ends them.",
            )
        time.sleep(LOOK_INTERVAL)
    outcome.values["runs"] = {
        os.path.basename(folder): in_words(read_part(host, folder, rank).status) for folder, rank in going
    }
    return outcome


def running(host: Host, work_root: str, name: str) -> List[Tuple[str, int]]:
    """Return (directory, node rank) of the runs whose supervisor lives on this host."""
    store = Store(host, work_root, STAGE)
    found: List[Tuple[str, int]] = []
    for entry in host.list_dir(store.root):
        directory = store.path(entry)
        rank = own_rank(host, directory, name) if entry != CURRENT else None
        if rank is not None and read_part(host, directory, rank).alive:
            found.append((directory, rank))
    return found
