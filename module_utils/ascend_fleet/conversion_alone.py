# SPDX-License-Identifier: GPL-3.0-or-later
"""Long work on a stage's directory, by one module at a time."""

from __future__ import annotations

import os
from typing import Any, Mapping, Sequence

from .host import Host
from .outcome import Outcome
from .receipt import Build, Store, converge

LOCK = ".lock"


def converge_alone(
    host: Host,
    store: Store,
    inputs: Mapping[str, Any],
    build: Build,
    parents: Mapping[str, str],
    verify: str,
    check_mode: bool,
    expected: Sequence[str] = (),
) -> Outcome:
    """Bring about an artifact as `converge` does. A second module that wants to work in the same place waits for the first and then finds
    its result: so a run whose connection was lost is picked up by the next, and not begun again beside it."""
    if check_mode or store.look(inputs, verify, expected).ok:
        return converge(store, inputs, build, parents, verify, check_mode, expected)
    with host.lock(os.path.join(store.root, LOCK)):
        return converge(store, inputs, build, parents, verify, check_mode, expected)
