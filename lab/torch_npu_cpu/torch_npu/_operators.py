# SPDX-License-Identifier: GPL-3.0-or-later
"""Fused operators of torch_npu in plain torch: computed in fp32, given back in the type that came in, differentiable.

Each is written from what it computes, not from how the NPU does it: rounding differs from the NPU's.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROTATE_HALVES, ROTATE_PAIRS = 0, 1


def npu_rms_norm(self: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Return `self` (..., *gamma.shape) over its root mean square times `gamma`, and the reciprocal of that root."""
    wide = self.float()
    axes = tuple(range(-gamma.dim(), 0))
    reciprocal = torch.rsqrt(wide.pow(2).mean(axes, keepdim=True) + epsilon)
    return (wide * reciprocal * gamma.float()).to(self.dtype), reciprocal


def npu_swiglu(self: Tensor, dim: int = -1) -> Tensor:
    """Halve `self` along `dim` (an even number of places) into gate and value; return silu(gate) * value."""
    gate, value = self.float().chunk(2, dim)
    return (torch.nn.functional.silu(gate) * value).to(self.dtype)


def npu_rotary_mul(input: Tensor, r1: Tensor, r2: Tensor, rotary_mode: str = "half") -> Tensor:
    """Rotate the last dimension of `input` by angles of which `r1` are the cosines and `r2` the sines (broadcast)."""
    mode = {"half": ROTATE_HALVES, "interleave": ROTATE_PAIRS}[rotary_mode]
    return rotary_position_embedding(input, r1, r2, mode)


def rotary_position_embedding(x: Tensor, cos: Tensor, sin: Tensor, mode: int = ROTATE_HALVES) -> Tensor:
    """Rotate pairs of places in the last dimension of `x` (four dimensions, the last one even).

    With ROTATE_HALVES place i belongs to place i + d/2, with ROTATE_PAIRS 2i to 2i + 1. ValueError for other input.
    """
    if x.dim() != 4 or cos.dim() != 4 or cos.shape != sin.shape or x.shape[-1] % 2:
        raise ValueError(f"rotary embedding of {tuple(x.shape)} by {tuple(cos.shape)} and {tuple(sin.shape)}")
    wide = x.float()
    if mode == ROTATE_HALVES:
        first, second = wide.chunk(2, -1)
        turned = torch.cat((-second, first), -1)
    elif mode == ROTATE_PAIRS:
        turned = torch.stack((-wide[..., 1::2], wide[..., 0::2]), -1).flatten(-2)
    else:
        raise ValueError(f"mode {mode} of the rotary embedding is neither 0 (halves) nor 1 (pairs)")
    return (wide * cos.float() + turned * sin.float()).to(x.dtype)


def npu_scaled_masked_softmax(
    x: Tensor, mask: Tensor | None, scale: float = 1.0, fixed_triu_mask: bool = False
) -> Tensor:
    """Return softmax(scale * x) over the last dimension, leaving out what `mask` (broadcast, true) hides.

    With `fixed_triu_mask` it leaves out what lies above the diagonal and does not look at `mask`.
    """
    above = torch.ones_like(x, dtype=torch.bool).triu(1)
    hidden = above if fixed_triu_mask or mask is None else mask.bool()
    return torch.softmax((x.float() * scale).masked_fill(hidden, -10000.0), -1).to(x.dtype)


def npu_apply_adam_w(
    beta1_power: float,
    beta2_power: float,
    lr: float,
    weight_decay: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    grad: Tensor,
    max_grad_norm: Tensor | None,
    amsgrad: bool,
    maximize: bool,
    *,
    out: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Take one AdamW step in place on `out` (weights, mean and mean square of the gradients) and return it.

    The powers are those of the step before, beta ** (step - 1): this step multiplies them once more.
    """
    if amsgrad or max_grad_norm is not None:
        raise NotImplementedError("the CPU stand-in's npu_apply_adam_w has no amsgrad")
    weight, mean, square = out
    slope = -grad.float() if maximize else grad.float()
    mean.mul_(beta1).add_(slope.to(mean.dtype), alpha=1 - beta1)
    square.mul_(beta2).add_((slope * slope).to(square.dtype), alpha=1 - beta2)
    mean_hat = mean.float() / (1 - beta1_power * beta1)
    square_hat = square.float() / (1 - beta2_power * beta2)
    weight.mul_(1 - lr * weight_decay)
    weight.sub_((lr * mean_hat / (square_hat.sqrt() + epsilon)).to(weight.dtype))
    return out
