# SPDX-License-Identifier: GPL-3.0-or-later
"""Importing this makes code written for CUDA run on the (stand-in) NPU: torch.cuda, device names, the nccl backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo  # imported now, because parts of it must see torch's own functions

from torch_npu import _distributed, _extensions, _redirect, npu

_NAMES = (
    *("Event", "Stream", "current_stream", "default_stream", "set_stream", "stream"),
    *("device", "device_count", "set_device", "current_device", "get_device_name", "get_device_properties"),
    *("init", "is_available", "is_initialized", "_lazy_call", "synchronize", "empty_cache"),
    *("default_generators", "get_rng_state", "set_rng_state", "manual_seed", "manual_seed_all", "initial_seed"),
    *("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved", "memory_stats"),
    *("reset_max_memory_allocated", "reset_peak_memory_stats", "mem_get_info"),
)
# Megatron of core_v0.12 takes these from torch.cuda.random itself.
_RANDOM_NAMES = ("get_rng_state", "set_rng_state", "manual_seed", "manual_seed_all", "initial_seed")


def _uncompiled(function: Callable[..., Any] | None = None, *_args: Any, **_kwargs: Any) -> Any:
    """Stand for torch.jit.script: MindSpeed compiles functions that call what is redirected here, which it cannot."""
    return function if function is not None else lambda inner: inner


for _name in _NAMES:
    setattr(torch.cuda, _name, getattr(npu, _name))
for _name in _RANDOM_NAMES:
    setattr(torch.cuda.random, _name, getattr(npu, _name))
torch.jit.script = _uncompiled  # type: ignore[assignment]
_redirect.redirect_tensors()
_extensions.emulate_extensions()
_distributed.use_gloo_for(("hccl", "nccl"))
