# SPDX-License-Identifier: GPL-3.0-or-later
"""Calling the programs of workers/, which run where torch is: arguments in, one JSON object out.

A worker's last line on stdout is its result, or with exit status 1 `{"error": ..., "remedy": ...}`.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence

from .errors import CommandError, FleetError, UnparsedError
from .host import Completed, Host, Runner
from .progress import PROGRESS

WORKERS = "workers"  # below the work root; role model_weights delivers it


def call_worker(
    runner: Runner,
    work_root: str,
    program: str,
    arguments: Sequence[str],
    timeout: Optional[float] = None,
    env: Optional[Dict[str, str]] = None,
) -> Dict[str, Any]:
    """Run `python <work root>/workers/<program> <arguments> --json` and return the object it answers.

    Raises FleetError with the worker's own error and remedy, or CommandError where it died without saying why.
    """
    argv = ["python", os.path.join(work_root, WORKERS, program), *arguments, "--json"]
    done = runner.run(argv, check=False, timeout=timeout, env=env)
    answer = _last_object(done)
    if done.rc == 0 and answer is not None:
        return answer
    if answer is not None and "error" in answer:
        raise FleetError(str(answer["error"]), str(answer.get("remedy", "")), worker=program)
    if done.rc == 0:
        raise UnparsedError(f"Worker {program} ended without a result: {done.stdout[-300:]!r}.", "Look at its output.")
    raise CommandError(argv, done.rc, done.stdout, done.stderr)


def on_own_npus(params: Mapping[str, Any]) -> Dict[str, str]:
    """Return the environment for workers that may use an NPU: they take the first one they see, and a privileged container sees all."""
    return {"ASCEND_RT_VISIBLE_DEVICES": params["visible_devices"]} if params["visible_devices"] else {}


@contextlib.contextmanager
def progress_shown(host: Host, stage_root: str) -> Iterator[Dict[str, str]]:
    """Give the environment in which workers leave their progress in the stage's directory, and take the file away afterwards."""
    path = os.path.join(stage_root, PROGRESS)
    try:
        yield {"FLEET_PROGRESS": path}
    finally:
        host.remove(path)


def _last_object(done: Completed) -> Optional[Dict[str, Any]]:
    lines = done.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
