# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe a Megatron-core checkpoint: its grid, types, recorded arguments and the digest of every tensor."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any, Dict

from _common import require_directory, warn
from _mcore import digest, find_iteration, grid, load_rank, missing_ranks, rank_files, tensors_of
from _to_mcore import tensors_digest


def inspect(directory: Path, digests: bool = True) -> Dict[str, Any]:
    """Return tracker, TP, PP, dtypes and per file its tensors (shape, dtype, sha256). TP and PP are those of the whole
    checkpoint; the ranks that are not here are in ``missing``, and the digest is of those that are."""
    require_directory(directory, "checkpoint")
    iteration, tracker = find_iteration(directory)
    files = rank_files(iteration)
    described = {
        f"{iteration.name}/{path.parent.name}/{path.name}": _describe(path, digests) for path in files.values()
    }
    tp, pp = grid(files, load_rank(next(iter(files.values()))).get("args"))
    missing = missing_ranks(files, tp, pp)
    if missing:
        warn(f"of TP {tp} x PP {pp} the ranks {', '.join(missing)} are missing")
    result: Dict[str, Any] = {
        "directory": str(directory),
        "tracker": tracker,
        "iteration": iteration.name,
        "tp": tp,
        "pp": pp,
        "missing": missing,
        "dtypes": sorted({tensor["dtype"] for one in described.values() for tensor in one["tensors"].values()}),
        "files": described,
    }
    if digests:
        result["tensors_digest"] = tensors_digest(
            {name: {key: tensor["sha256"] for key, tensor in one["tensors"].items()} for name, one in described.items()}
        )
    return result


def _describe(path: Path, digests: bool) -> Dict[str, Any]:
    state = load_rank(path)
    tensors: Dict[str, Dict[str, Any]] = {}
    for key, tensor in tensors_of(state).items():
        tensors[key] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).replace("torch.", "")}
        if digests:
            tensors[key]["sha256"] = digest(tensor)
    return {
        "bytes": path.stat().st_size,
        "tensors": tensors,
        "top": {key: type(value).__name__ for key, value in state.items()},
        "iteration": state.get("iteration") if isinstance(state.get("iteration"), int) else None,
        "args": _plain(state.get("args")),
    }


def _plain(args: Any) -> Dict[str, Any]:
    """The recorded arguments that are plain values; a checkpoint of a run holds objects of Megatron among them."""
    if not isinstance(args, Namespace):
        return {}
    return {
        key: value
        for key, value in sorted(vars(args).items())
        if value is None or isinstance(value, (bool, int, float, str))
    }
