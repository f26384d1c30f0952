# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run prints, and which rank prints it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import torch
import torch.distributed as dist

_TERA = 10**12


def print_rank_0(message: str) -> None:
    """Print on global rank 0 only."""
    if dist.get_rank() == 0:
        print(message, flush=True)


def print_rank_last(message: str) -> None:
    """Print on the last global rank only."""
    if dist.get_rank() == dist.get_world_size() - 1:
        print(message, flush=True)


def print_datetime(event: str) -> None:
    """Wait for all ranks, then print on rank 0 when the event was."""
    dist.barrier()
    print_rank_0(f"[{event}] datetime: {datetime.now():%Y-%m-%d %H:%M:%S} ")


def print_args(title: str, args: argparse.Namespace) -> None:
    """Print every argument with its value, one a line, on rank 0."""
    if args.rank != 0:
        return
    print(f"------------------------ {title} ------------------------")
    for name in sorted(vars(args), key=str.lower):
        print(f"  {name} {'.' * (48 - len(name))} {getattr(args, name)}")
    print(f"-------------------- end of {title} ---------------------", flush=True)


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Time a piece of work and print the shortest and longest time over all ranks, in milliseconds."""
    started = time.monotonic()
    yield
    spent = (time.monotonic() - started) * 1000.0
    ends = torch.tensor([-spent, spent])
    dist.all_reduce(ends, op=dist.ReduceOp.MAX)
    print_rank_last(
        f"(min, max) time across ranks (ms):\n    {name} {'.' * (47 - len(name))}: "
        f"({-ends[0].item():.2f}, {ends[1].item():.2f})"
    )


def floating_point_operations(args: argparse.Namespace, batch_size: int) -> float:
    """Return the floating-point operations of one iteration over `batch_size` samples, forward and backward."""
    attention = 1 + args.num_query_groups / args.num_attention_heads + args.seq_length / args.hidden_size
    attention *= args.kv_channels * args.num_attention_heads / args.hidden_size
    mlp = 1.5 * args.ffn_hidden_size / args.hidden_size
    head = args.padded_vocab_size / (2 * args.num_layers * args.hidden_size)
    per_token = 12 * args.num_layers * args.hidden_size**2 * (attention + mlp + head)
    return per_token * batch_size * args.seq_length


class IterationLog:
    """Sums up iterations and prints a line every --log-interval of them."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Start the clock."""
        self.args = args
        self.loss, self.advanced = 0.0, 0
        self.memory_shown = False
        self.since = time.monotonic()

    def add(self, iteration: int, loss: float | None, learning_rate: float, grad_norm: float) -> None:
        """Note a finished iteration; `loss` is None on ranks that compute none."""
        self.advanced += 1
        self.loss += loss or 0.0
        if iteration % self.args.log_interval:
            return
        dist.barrier()
        seconds = (time.monotonic() - self.since) / self.advanced
        print_rank_last(self._line(iteration, seconds, learning_rate, grad_norm))
        if not self.memory_shown and learning_rate > 0.0:
            self._show_memory(iteration)
        self.loss, self.advanced = 0.0, 0
        self.since = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of saving out of the time of an iteration."""
        spent = time.monotonic() - self.since
        yield
        self.since = time.monotonic() - spent

    def _line(self, iteration: int, seconds: float, learning_rate: float, grad_norm: float) -> str:
        args = self.args
        fields = [
            f" [{datetime.now():%Y-%m-%d %H:%M:%S}] iteration {iteration:8d}/{args.train_iters:8d}",
            f"consumed samples: {args.consumed_train_samples:12d}",
            f"elapsed time per iteration (ms): {seconds * 1000.0:.1f}",
        ]
        if args.log_throughput:
            rate = floating_point_operations(args, args.global_batch_size) / (seconds * _TERA * args.world_size)
            fields.append(f"throughput per GPU (TFLOP/s/GPU): {rate:.1f}")
        fields += [f"learning rate: {learning_rate:.6E}", f"global batch size: {args.global_batch_size:5d}"]
        mean = self.loss / self.advanced
        if mean > 0.0:  # not so for NaN: the field is then missing, as upstream's is
            fields.append(f"lm loss: {mean:.6E}")
        fields += [
            "loss scale: 1.0",
            f"grad norm: {grad_norm:.3f}",
            "number of skipped iterations:   0",
            "number of nan iterations:   0",
        ]
        return " | ".join(fields) + " |"

    def _show_memory(self, iteration: int) -> None:
        self.memory_shown = True
        if self.args.data_parallel_rank == 0:
            cuda, mega = torch.cuda, 1024.0 * 1024.0
            print(
                f"[Rank {dist.get_rank()}] (after {iteration} iterations) memory (MB)"
                f" | allocated: {cuda.memory_allocated() / mega} | max allocated: {cuda.max_memory_allocated() / mega}"
                f" | reserved: {cuda.memory_reserved() / mega} | max reserved: {cuda.max_memory_reserved() / mega}",
                flush=True,
            )
