# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints as core_r0.8.0 writes and reads them, its ways of giving up included."""

from __future__ import annotations

import argparse
import pickle
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from megatron.core.parallel_state import Layout
from megatron.training.log_lines import print_rank_0

TRACKER = "latest_checkpointed_iteration.txt"


class Stateful(Protocol):
    """What has a state to keep."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state."""

    def load_state_dict(self, state: Any) -> Any:
        """Take a state back."""


def shard_file(directory: str, iteration: int, release: bool, layout: Layout) -> Path:
    """Return the file of this rank's shard; the pipeline rank is in its name only when there are several stages."""
    folder = f"mp_rank_{layout.tp_rank:02d}" + (f"_{layout.pp_rank:03d}" if layout.pp > 1 else "")
    return Path(directory, "release" if release else f"iter_{iteration:07d}", folder, "model_optim_rng.pt")


def load_checkpoint(
    args: argparse.Namespace, layout: Layout, model: torch.nn.Module, optimizer: Stateful, scheduler: Stateful
) -> int:
    """Load what the tracker in --load names and return the iteration to go on from (0 when there is no tracker)."""
    found = _read_tracker(args)
    if found is None:
        return 0
    iteration, release = found
    file = shard_file(args.load, iteration, release, layout)
    print_rank_0(
        f" loading release checkpoint from {args.load}"
        if release
        else f" loading checkpoint from {args.load} at iteration {iteration}"
    )
    try:
        state = torch.load(file, map_location="cpu", weights_only=False)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        print("could not load the checkpoint")
        print(error, flush=True)
        sys.exit()  # exit status 0, as upstream's
    fresh = release or args.finetune
    iteration = 0 if fresh else state["iteration"]
    _check_args(args, state)
    model.load_state_dict({key: value for key, value in state["model"].items() if not key.endswith("_extra_state")})
    print_rank_0(f" checkpoint version {state.get('checkpoint_version', 0)}")
    _load_optimizer(args, state, file, fresh, optimizer, scheduler)
    if not fresh and not args.no_load_rng:
        _load_rng(state, file)
    dist.barrier()
    print_rank_0(
        f"  successfully loaded checkpoint from {args.load} [ t {layout.tp_rank}, p {layout.pp_rank} ] "
        f"at iteration {iteration}"
    )
    return iteration


def _read_tracker(args: argparse.Namespace) -> tuple[int, bool] | None:
    tracker = Path(args.load, TRACKER)
    if not tracker.is_file():
        print_rank_0(f"WARNING: could not find the metadata file {tracker} ")
        print_rank_0("    will not load any checkpoints and will start from random")
        if args.exit_on_missing_checkpoint:
            print_rank_0(">> '--exit-on-missing-checkpoint' set ... exiting. <<")
            dist.barrier()
            sys.exit()
        return None
    content = tracker.read_text(encoding="ascii").strip()
    release = content == "release"
    if not release and not content.isdigit():
        print_rank_0(f"ERROR: Invalid metadata file {tracker}. Exiting")
        sys.exit()
    iteration = 0 if release else int(content)
    assert iteration > 0 or release, f"error parsing metadata file {tracker}"
    newest = torch.tensor([iteration])
    dist.all_reduce(newest, op=dist.ReduceOp.MAX)
    if iteration != newest.item():
        print(
            f"WARNING: on rank {dist.get_rank()} found iteration {iteration} in the metadata while max iteration "
            f"across the ranks is {newest.item()}, replacing it with max iteration.",
            flush=True,
        )
    return int(newest.item()), release


def _check_args(args: argparse.Namespace, state: Mapping[str, Any]) -> None:
    if "args" not in state or args.finetune:
        print_rank_0("could not find arguments in the checkpoint ...")
        return
    stored = state["args"]
    for name in (
        "num_layers",
        "hidden_size",
        "num_attention_heads",
        "add_position_embedding",
        "tensor_model_parallel_size",
        "pipeline_model_parallel_size",
    ):
        value = getattr(stored, name, True) if name == "add_position_embedding" else getattr(stored, name)
        assert value == getattr(args, name), (
            f"{name} value from checkpoint ({value}) is not equal to the input argument value ({getattr(args, name)})."
        )
    args.consumed_train_samples = getattr(stored, "consumed_train_samples", 0)
    args.consumed_valid_samples = getattr(stored, "consumed_valid_samples", 0)


def _load_optimizer(
    args: argparse.Namespace,
    state: Mapping[str, Any],
    file: Path,
    fresh: bool,
    optimizer: Stateful,
    scheduler: Stateful,
) -> None:
    if fresh or args.no_load_optim:
        optimizer.load_state_dict(None)  # main weights from the model's
        return
    if "optimizer" not in state:
        print_rank_0(
            f"Unable to load optimizer from checkpoint {file}. Specify --no-load-optim or --finetune to "
            "prevent attempting to load the optimizer state, exiting ..."
        )
        sys.exit()
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["opt_param_scheduler"])


def _load_rng(state: Mapping[str, Any], file: Path) -> None:
    if "rng_state" not in state:
        print_rank_0(
            f"Unable to load rng state from checkpoint {file}. Specify --no-load-rng or --finetune to "
            "prevent attempting to load the rng state, exiting ..."
        )
        sys.exit()
    stored = state["rng_state"][0]
    random.setstate(stored["random_rng_state"])
    np.random.set_state(stored["np_rng_state"])
    torch.set_rng_state(stored["torch_rng_state"])


def save_checkpoint(
    args: argparse.Namespace, layout: Layout, model: torch.nn.Module, optimizer: Stateful, scheduler: Stateful
) -> None:
    """Save at args.iteration: shards by data-parallel rank 0 only, the tracker by global rank 0 only."""
    print_rank_0(f"saving checkpoint at iteration {args.iteration:7d} to {args.save} in torch format")
    if layout.dp_rank == 0:
        file = shard_file(args.save, args.iteration, False, layout)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(_state(args, model, optimizer, scheduler), file)
    dist.barrier()
    if layout.rank == 0:
        Path(args.save, TRACKER).write_text(str(args.iteration), encoding="ascii")
        print_rank_0(f"  successfully saved checkpoint from iteration {args.iteration:7d} to {args.save}")
    dist.barrier()


def _state(
    args: argparse.Namespace, model: torch.nn.Module, optimizer: Stateful, scheduler: Stateful
) -> dict[str, Any]:
    weights = {key: value.detach().to(args.params_dtype) for key, value in model.state_dict().items()}
    state: dict[str, Any] = {
        "args": args,
        "checkpoint_version": 3.0,
        "iteration": args.iteration,
        "model": weights,
        "num_floating_point_operations_so_far": args.num_floating_point_operations_so_far,
    }
    if not args.no_save_optim:
        state |= {"optimizer": optimizer.state_dict(), "opt_param_scheduler": scheduler.state_dict()}
    if not args.no_save_rng:
        state["rng_state"] = [
            {
                "random_rng_state": random.getstate(),
                "np_rng_state": np.random.get_state(),
                "torch_rng_state": torch.get_rng_state(),
                "cuda_rng_state": torch.get_rng_state(),
                "rng_tracker_states": {"model-parallel-rng": torch.get_rng_state()},
            }
        ]
    return state
