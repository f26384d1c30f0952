# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rank opens the dataset, which builds its indices, and the micro batches that each rank gets."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from megatron.core.parallel_state import Layout
from megatron.training.log_lines import print_rank_0
from torch import Tensor
from torch_npu import npu


def train_dataset(args: Namespace, layout: Layout) -> GPTDataset | None:
    """Open the dataset on tensor-parallel rank 0; one rank (of each node without shared storage) builds its indices."""
    print_rank_0("> building train, validation, and test datasets ...")
    samples = args.train_iters * args.global_batch_size
    print_rank_0(
        f" > datasets target sizes (minimum size):\n    train:      {samples}\n    validation: 0\n    test:       0"
    )
    config = GPTDatasetConfig(
        args.seed, args.seq_length, args.split, samples, args.tokenizer_name_or_path, args.data_cache_path
    )
    builds = layout.rank == 0
    if args.no_shared_storage:
        wide = layout.tp > npu.device_count()
        builds = layout.tp_rank == 0 and (wide or npu.current_device() == 0)
    dataset = GPTDataset(args.data_path[0], config, build=True) if builds else None
    dist.barrier()
    if not builds and layout.tp_rank == 0:
        dataset = GPTDataset(args.data_path[0], config, build=False)
    print_rank_0("> finished creating GPT datasets ...")
    return dataset


def global_batches(args: Namespace, layout: Layout, dataset: GPTDataset | None) -> Iterator[list[Tensor]]:
    """Yield this rank's micro batches of each global batch: ids (b, s + 1); without content on stages that need none."""
    consumed, size = args.consumed_train_samples, args.micro_batch_size
    while True:
        batches: list[Tensor] = []
        for micro in range(args.num_micro_batches):
            start = consumed + (micro * layout.dp + layout.dp_rank) * size
            batch = torch.empty((size, args.seq_length + 1), dtype=torch.long)
            if dataset is not None:
                batch = torch.from_numpy(np.stack([dataset[start + row] for row in range(size)]))
            if layout.first_stage or layout.last_stage:
                dist.broadcast(batch, layout.tp_source, group=layout.tp_group)
            batches.append(batch)
        yield batches
        consumed += args.global_batch_size
