# SPDX-License-Identifier: GPL-3.0-or-later
"""Megatron-core checkpoints on disk: their files, and reading them without Megatron and without running their pickles."""

from __future__ import annotations

import hashlib
import pickle
import re
import types
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from _common import WorkerError

Rank = Tuple[int, int]  # (tp, pp)
TRACKER = "latest_checkpointed_iteration.txt"
WEIGHTS = "model_optim_rng.pt"
RANK = re.compile(r"mp_rank_(\d+)(?:_(\d+))?$")
ALLOWED = {
    ("collections", "OrderedDict"),
    ("argparse", "Namespace"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("builtins", "set"),
}
COPY_AGAIN = "Copy or convert this file again."


class Stub:
    """Stands for an object of a class that is not needed to read tensors, and whose code must not run."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __call__(self, *_args: Any, **_kwargs: Any) -> Stub:
        return self

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass

    def append(self, _value: Any) -> None:
        pass

    def extend(self, _values: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Loads tensors and plain containers; whatever else a checkpoint names becomes a Stub."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and (name.endswith("Storage") or isinstance(getattr(torch, name, None), torch.dtype)):
            return getattr(torch, name)
        if (module, name) in ALLOWED:
            return super().find_class(module, name)
        return type(name, (Stub,), {"__module__": module})


def _pickle_module() -> Any:
    module = types.ModuleType("restricted_pickle")
    module.Unpickler = _Unpickler  # type: ignore[attr-defined]
    module.load = lambda handle, **options: _Unpickler(handle, **options).load()  # type: ignore[attr-defined]
    return module


def load_rank(path: Path) -> Dict[str, Any]:
    """Read a rank file. Tensors are mapped from the file, so only what is used is read."""
    if not path.is_file():
        raise WorkerError(f"checkpoint file {path} does not exist", "Bring this rank's shard to this host.")
    try:
        state = torch.load(str(path), map_location="cpu", mmap=True, weights_only=False, pickle_module=_pickle_module())
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, OSError) as error:
        raise WorkerError(
            f"{path} ({path.stat().st_size} bytes) cannot be read: {str(error).splitlines()[0]}", COPY_AGAIN
        ) from error
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        kind = "several virtual pipeline stages" if isinstance(state, dict) and "model0" in state else "no model"
        raise WorkerError(
            f"{path} holds {kind}, not one Megatron-core model", "Use the upstream engine for this checkpoint."
        )
    return state


def tensors_of(state: Dict[str, Any]) -> Dict[str, torch.Tensor]:
    """The model tensors of a rank file by key; the empty ``_extra_state`` entries are left out."""
    return OrderedDict((key, value) for key, value in state["model"].items() if isinstance(value, torch.Tensor))


def find_iteration(directory: Path) -> Tuple[Path, str]:
    """Return the directory of the checkpoint that the tracker of ``directory`` names, and the tracker's text.

    A directory that itself holds rank directories is taken as it is, with an empty text.
    """
    tracker = directory / TRACKER
    if not tracker.is_file():
        if any(RANK.match(entry.name) for entry in directory.iterdir()):
            return directory, ""
        raise WorkerError(
            f"{directory} has no {TRACKER} and no mp_rank directory", "Give the directory of a checkpoint."
        )
    text = tracker.read_text(encoding="ascii", errors="replace").strip()
    if text == "release":
        found = directory / "release"
    elif text.isdigit():
        found = directory / f"iter_{int(text):07d}"
    else:
        raise WorkerError(
            f"tracker {tracker} holds {text!r}, neither a number nor release", "Write the iteration into it."
        )
    if not found.is_dir():
        raise WorkerError(
            f"tracker {tracker} names {found.name}, which does not exist", "Bring the checkpoint it names."
        )
    return found, text


def rank_files(iteration: Path) -> Dict[Rank, Path]:
    """The rank files below an iteration directory by (tp, pp)."""
    files: Dict[Rank, Path] = {}
    for entry in sorted(iteration.iterdir()):
        match = RANK.match(entry.name)
        if match:
            files[(int(match.group(1)), int(match.group(2) or 0))] = entry / WEIGHTS
    if not files:
        raise WorkerError(f"{iteration} holds no mp_rank directory", "Give the directory of a checkpoint.")
    return files


def grid(files: Dict[Rank, Path], args: Any) -> Tuple[int, int]:
    """(TP, PP) of the checkpoint that these rank files are of, which may be a part of it: what ``args``, recorded in one of
    them, says, else what their names do. A name without a stage is of PP 1, one with a stage of PP 2 at least."""
    tp = max(rank[0] for rank in files) + 1
    pp = max(rank[1] for rank in files) + 1
    if any(path.parent.name.count("_") > 2 for path in files.values()):
        pp = max(pp, 2)
    return max(tp, _size(args, "tensor_model_parallel_size")), max(pp, _size(args, "pipeline_model_parallel_size"))


def _size(args: Any, name: str) -> int:
    value = vars(args).get(name) if isinstance(args, Namespace) else None
    return value if isinstance(value, int) else 1


def missing_ranks(files: Dict[Rank, Path], tp: int, pp: int) -> List[str]:
    return [f"{t}_{p}" for p in range(pp) for t in range(tp) if (t, p) not in files]


def whole_grid(files: Dict[Rank, Path]) -> Tuple[int, int]:
    """(TP, PP) of a complete set of rank files; a missing rank is named."""
    tp, pp = grid(files, load_rank(next(iter(files.values()))).get("args"))
    missing = missing_ranks(files, tp, pp)
    if missing:
        raise WorkerError(
            f"of TP {tp} x PP {pp} the ranks {', '.join(missing)} are missing", "Gather the shards of all hosts."
        )
    return tp, pp


def digest(tensor: torch.Tensor) -> str:
    """sha256 of the tensor's values in row order, as they lie in memory."""
    flat = tensor.detach().contiguous().view(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()
