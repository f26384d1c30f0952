# SPDX-License-Identifier: GPL-3.0-or-later
"""Importing this makes code written for CUDA run on the (stand-in) NPU: torch.cuda calls and the nccl backend."""

from __future__ import annotations

import torch

from torch_npu import _distributed, npu

# torch.cuda.is_available stays False: torch's own code asks it before it touches CUDA.
_NAMES = (
    "device_count",
    "set_device",
    "current_device",
    "get_device_name",
    "synchronize",
    "empty_cache",
    "memory_allocated",
    "max_memory_allocated",
    "memory_reserved",
    "max_memory_reserved",
)

for _name in _NAMES:
    setattr(torch.cuda, _name, getattr(npu, _name))
_distributed.use_gloo_for(("hccl", "nccl"))
