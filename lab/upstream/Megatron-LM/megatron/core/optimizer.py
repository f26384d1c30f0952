# SPDX-License-Identifier: GPL-3.0-or-later
"""Adam on fp32 main weights, for a stage of a tensor, pipeline and data parallel model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.parallel_state import Layout
from torch import Tensor, nn


class MixedPrecisionOptimizer:
    """Adam on fp32 main weights; the model gets them rounded to its own precision."""

    def __init__(
        self, named: Mapping[str, nn.Parameter], shared: nn.Parameter | None, layout: Layout, args: Namespace
    ) -> None:
        """Copy the weights of a pipeline stage; matrices decay, norms and biases do not.

        `shared` is the weight of a tied embedding that the first and the last stage both hold.
        """
        self.args, self.layout, self.shared = args, layout, shared
        self.weights = list(named.values())
        self.mains = [weight.detach().clone() for weight in self.weights]
        groups = []
        for decays in (True, False):
            mains = [main for main in self.mains if (main.dim() > 1) == decays]
            if mains:
                groups.append({"params": mains, "weight_decay": args.weight_decay if decays else 0.0})
        self.adam = torch.optim.AdamW(groups, lr=0.0, betas=(args.adam_beta1, args.adam_beta2), eps=args.adam_eps)
        self.counted = [self._counts(name, weight) for name, weight in named.items()]

    def _counts(self, name: str, weight: nn.Parameter) -> bool:
        """Tell whether this rank adds the weight to the norm: what several ranks hold counts once."""
        if weight is self.shared and not self.layout.first_stage:
            return False
        return self.layout.tp_rank == 0 or weight.dim() > 1 or name.endswith("linear_qkv.bias")

    def step(self, learning_rate: float) -> float:
        """Sum the gradients over the copies, clip, update; return the norm of all gradients before clipping."""
        gradients = [_gradient(weight) for weight in self.weights]
        self._sum_over_copies(gradients)
        squares = [gradient.pow(2).sum() for gradient, counts in zip(gradients, self.counted) if counts]
        total = torch.stack(squares).sum()
        dist.all_reduce(total, group=self.layout.model_group)
        norm = total.sqrt().item()
        scale = self.args.clip_grad / (norm + 1e-6) if self.args.clip_grad > 0.0 else 1.0
        for main, gradient in zip(self.mains, gradients):
            main.grad = gradient * min(scale, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        self.adam.step()
        for weight, main in zip(self.weights, self.mains):
            weight.data.copy_(main.to(self.args.params_dtype))
            weight.grad = None
        return norm

    def _sum_over_copies(self, gradients: list[Tensor]) -> None:
        if self.layout.dp > 1:
            for gradient in gradients:
                dist.all_reduce(gradient, group=self.layout.dp_group)
                gradient /= self.layout.dp
        if self.shared is not None:
            dist.all_reduce(_gradient(self.shared), group=self.layout.embedding_group)

    def state_dict(self) -> dict[str, Any]:
        """Return Adam's state and the fp32 weights."""
        return {"optimizer": self.adam.state_dict(), "fp32_from_fp16_params": [self.mains]}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take a stored state back; None: only follow the model's weights."""
        sources = self.weights if state is None else state["fp32_from_fp16_params"][0]
        for main, source in zip(self.mains, sources):
            main.copy_(source.detach())
        if state is not None:
            self.adam.load_state_dict(state["optimizer"])


def _gradient(weight: nn.Parameter) -> Tensor:
    if weight.grad is None:
        raise RuntimeError("a weight took no part in the loss")
    return weight.grad
