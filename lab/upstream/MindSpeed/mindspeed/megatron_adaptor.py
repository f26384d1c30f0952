# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepares the process for a Megatron tree: CUDA names mean the NPU from here on."""

from __future__ import annotations

import torch_npu.contrib.transfer_to_npu  # noqa: F401
from megatron.core import __version__ as megatron_version

from mindspeed.op_builder import OpBuilder

EXPECTED_MEGATRON = "0.8.0"

if megatron_version != EXPECTED_MEGATRON:
    raise ImportError(f"this MindSpeed works with megatron.core {EXPECTED_MEGATRON}, the tree holds {megatron_version}")
INCLUDE_PATHS = OpBuilder().include_paths()
