# SPDX-License-Identifier: GPL-3.0-or-later
"""The learning rate as a function of the samples seen: linear warm-up, then a decay."""

from __future__ import annotations

import argparse
import math

_CHECKED = (
    "max_lr",
    "min_lr",
    "lr_warmup_steps",
    "lr_decay_steps",
    "lr_decay_style",
    "start_wd",
    "end_wd",
    "wd_incr_style",
    "wd_incr_steps",
)


class OptimizerParamScheduler:
    """Learning rate of a run; steps are counted in samples."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Take the schedule from the run's arguments; AssertionError when it is impossible."""
        self.max_lr, self.min_lr = float(args.lr), float(args.min_lr)
        self.lr_decay_style = args.lr_decay_style
        self.lr_decay_steps = (args.lr_decay_iters or args.train_iters) * args.global_batch_size
        if args.lr_warmup_fraction is not None:
            self.lr_warmup_steps = args.lr_warmup_fraction * self.lr_decay_steps
        else:
            self.lr_warmup_steps = args.lr_warmup_iters * args.global_batch_size
        self.start_wd = self.end_wd = args.weight_decay
        self.wd_incr_style, self.wd_incr_steps = "constant", args.train_iters * args.global_batch_size
        self.num_steps = 0
        self.override = args.override_opt_param_scheduler
        self.use_checkpoint = args.use_checkpoint_opt_param_scheduler
        assert self.lr_warmup_steps < self.lr_decay_steps

    def step(self, increment: int) -> None:
        """Count `increment` more samples."""
        self.num_steps += increment

    def get_lr(self) -> float:
        """Return the rate after the samples counted so far."""
        if self.lr_warmup_steps > 0 and self.num_steps <= self.lr_warmup_steps:
            return self.max_lr * self.num_steps / self.lr_warmup_steps
        if self.lr_decay_style == "constant":
            return self.max_lr
        if self.num_steps > self.lr_decay_steps:
            return self.min_lr
        if self.lr_decay_style == "inverse-square-root":
            warmup = max(self.lr_warmup_steps, 1)
            return max(self.min_lr, self.max_lr * math.sqrt(warmup / max(self.num_steps, 1)))
        done = (self.num_steps - self.lr_warmup_steps) / (self.lr_decay_steps - self.lr_warmup_steps)
        left = 1.0 - done if self.lr_decay_style == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
        return self.min_lr + left * (self.max_lr - self.min_lr)

    def state_dict(self) -> dict[str, object]:
        """Return what a checkpoint keeps of the schedule."""
        return {name: getattr(self, name) for name in (*_CHECKED, "num_steps")}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on where a checkpoint stopped; AssertionError when its schedule is another one."""
        for name in _CHECKED:
            mine, stored = getattr(self, name), state[name]
            if self.override:
                continue
            assert self.use_checkpoint or mine == stored, (
                f"OptimizerParamScheduler: class input value {mine} and checkpoint value {stored} for {name} do not match"
            )
            setattr(self, name, stored)
        self.num_steps = int(str(state["num_steps"]))
