# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for torch_npu that counts and holds NPU nodes but computes on the CPU.

It belongs to the lab: it proves arguments, device lists, layout, data, checkpoints and the first loss, and nothing about
NPU kernels, NPU memory, HCCL or speed. Where a real NPU driver is loaded it refuses to be imported.
"""

from __future__ import annotations

import os
import sys

from torch_npu import _devices

_sign = _devices.real_driver_sign()
if _sign is not None:
    raise ImportError(
        f"this torch_npu is the lab's CPU stand-in, but a real NPU driver is loaded here ({_sign}); "
        "take it off PYTHONPATH and install the torch_npu of your CANN release"
    )

import torch  # noqa: E402 -- refuse before the slow import

from torch_npu import _C, _distributed, npu  # noqa: E402
from torch_npu._attention import npu_fusion_attention  # noqa: E402
from torch_npu._operators import (  # noqa: E402
    npu_apply_adam_w,
    npu_rms_norm,
    npu_rotary_mul,
    npu_scaled_masked_softmax,
    npu_swiglu,
)

__version__ = f"{torch.__version__.split('+', maxsplit=1)[0]}+cpu.standin"
__all__ = [
    "_C",
    "__version__",
    "npu",
    "npu_apply_adam_w",
    "npu_fusion_attention",
    "npu_rms_norm",
    "npu_rotary_mul",
    "npu_scaled_masked_softmax",
    "npu_swiglu",
]


def __getattr__(name: str) -> object:
    raise AttributeError(f"torch_npu.{name}: the lab's CPU stand-in for torch_npu does not have it")


if "torch.npu" not in sys.modules:
    sys.modules["torch.npu"] = npu
    torch.npu = npu  # type: ignore[attr-defined]
    _distributed.use_gloo_for(("hccl",))
    if os.environ.get("RANK", "0") == "0":
        print("torch_npu: CPU stand-in of the lab, no NPU is used", file=sys.stderr, flush=True)
