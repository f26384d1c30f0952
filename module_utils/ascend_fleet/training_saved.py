# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints that a training run saved on one host: which are there, and whether their files are whole."""

from __future__ import annotations

import os
import re
import zipfile
from typing import Dict, List, Mapping, Optional, Sequence

from .host import Host

TRACKER = "latest_checkpointed_iteration.txt"
WEIGHTS = "model_optim_rng.pt"  # the file of a shard that every rank loads
_ITERATION = re.compile(r"^iter_(\d{7,})$")
_PICKLE = b"\x80"  # first byte of what torch wrote before it wrote zip archives


def iteration_directory(iteration: int) -> str:
    """Return the name of the directory of an iteration, as Megatron writes it."""
    return f"iter_{iteration:07d}"


def read_tracker(host: Host, directory: str) -> Optional[str]:
    """Return what the tracker file names (`release` or a number); None where there is none."""
    text = host.read_text(os.path.join(directory, TRACKER))
    return text.strip() if text is not None and text.strip() else None


def write_tracker(host: Host, directory: str, iteration: int) -> None:
    """Name the iteration to load. Training writes this file on the first host only; on resume every host needs it."""
    if read_tracker(host, directory) != str(iteration):
        host.write_text(os.path.join(directory, TRACKER), str(iteration))


def loadable(host: Host, directory: str, shards: Sequence[str]) -> List[str]:
    """Return why the ranks of this host could not load what the tracker of a directory names; empty when they can."""
    tracker = read_tracker(host, directory)
    if tracker is None:
        return [f"{directory} has no {TRACKER}: training would start from random weights"]
    if tracker != "release" and not tracker.isdigit():
        return [f"{os.path.join(directory, TRACKER)} names {tracker!r}, which is no iteration"]
    folder = "release" if tracker == "release" else iteration_directory(int(tracker))
    paths = [os.path.join(directory, folder, shard, WEIGHTS) for shard in shards]
    return [f"{path} is absent or not whole" for path in paths if not whole(host, path)]


def saved(host: Host, directory: str, files: Sequence[str]) -> Dict[int, List[str]]:
    """Return iteration -> names of the shards of which every file is there and whole."""
    found: Dict[int, List[str]] = {}
    for name in host.list_dir(directory):
        match = _ITERATION.match(name)
        if match:
            folder = os.path.join(directory, name)
            found[int(match.group(1))] = [
                shard
                for shard in host.list_dir(folder)
                if shard.startswith("mp_rank_")
                and all(whole(host, os.path.join(folder, shard, file)) for file in files)
            ]
    return found


def whole(host: Host, path: str) -> bool:
    """Say whether a file that torch.save wrote is there and not cut off.

    A zip archive ends in its table of contents, which a file that was cut off does not have. The values are not read.
    """
    found = host.stat(path)
    if found is None or not host.is_file(path) or found.st_size == 0:
        return False
    try:
        with open(path, "rb") as stream:
            if stream.read(1) == _PICKLE:
                return True
        with zipfile.ZipFile(path) as archive:
            return bool(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def complete_over_writers(
    saved_by_host: Mapping[str, Mapping[int, Sequence[str]]],
    written_by_host: Mapping[str, Sequence[str]],
    needed_by_host: Mapping[str, Sequence[str]],
) -> Optional[int]:
    """Return the last iteration of which every shard that is loaded anywhere is whole on the host that writes it; None where none is.

    With data parallelism only one of the hosts that load a shard writes it; the others can get it from there.
    """
    needed = set().union(*needed_by_host.values())
    iterations = [
        iteration
        for iteration in set().union(*(set(item) for item in saved_by_host.values()))
        if needed
        <= set().union(
            *(set(item.get(iteration, ())) & set(written_by_host[host]) for host, item in saved_by_host.items())
        )
    ]
    return max(iterations) if iterations else None
