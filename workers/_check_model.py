# SPDX-License-Identifier: GPL-3.0-or-later
"""What is looked at in the shards of a Hugging Face model before it is converted: its tensors, then their values."""

from __future__ import annotations

from typing import Iterable, List, Optional, Sequence, Tuple

import torch
from _common import WorkerError
from _layout import EMBEDDING, LM_HEAD, ModelSpec, Split, hf_shapes, rank_targets
from _safetensors import Shards
from _values import EXPONENTS, is_finite, same_values

Rank = Tuple[int, int]


def check_tensors(shards: Shards, spec: ModelSpec) -> None:
    """The shards must hold exactly the tensors of such a model, in the right shapes."""
    expected = hf_shapes(spec)
    for name, shape in expected.items():
        if name not in shards.place:
            raise WorkerError(
                f"tensor {name} is in no shard of {shards.directory}", "Copy the complete model directory."
            )
        entry = shards.entry(name)
        if entry.shape != shape:
            raise WorkerError(
                f"tensor {name} in {shards.place[name]} has shape {list(entry.shape)}, config.json asks for {list(shape)}",
                "Take config.json and the shards from one revision of the model.",
            )
        if entry.dtype not in EXPONENTS:
            raise WorkerError(
                f"tensor {name} has the type {entry.dtype}", "Use weights in float32, float16 or bfloat16."
            )
    # Old models carry rotary tables, and tied models a copy of the embedding: neither is part of the checkpoint.
    unknown = [
        name
        for name in shards.place
        if name not in expected and not name.endswith("rotary_emb.inv_freq") and name != LM_HEAD
    ]
    if unknown:
        raise WorkerError(
            f"tensor {sorted(unknown)[0]} (of {len(unknown)}) does not belong to a {spec.family} model of this config.json",
            "Use the upstream engine for a model with further tensors.",
        )


def untied(shards: Shards, spec: ModelSpec) -> List[str]:
    """Name an output layer that a tied model carries although it is not the embedding: as transformers does it is left out."""
    if not spec.tied or LM_HEAD not in shards.place:
        return []
    same = same_values(shards.tensor(LM_HEAD), shards.tensor(EMBEDDING))
    shards.release([LM_HEAD, EMBEDDING])
    if same:
        return []
    return [
        f"tensor {LM_HEAD} in {shards.place[LM_HEAD]} differs from {EMBEDDING}, but config.json ties the two: it is left out and "
        "lost; if the model was trained with it, set tie_word_embeddings to false and convert again"
    ]


def unfinite(
    shards: Shards, spec: ModelSpec, split: Split, ranks: Iterable[Rank], types: Sequence[Optional[torch.dtype]]
) -> List[str]:
    """Name the tensors of these ranks that hold NaN or Inf, or will when their values have passed through ``types``: they are
    converted as they are, but no training recovers."""
    names = {piece.source for rank in ranks for target in rank_targets(spec, split, *rank) for piece in target.pieces}
    found = []
    for name in sorted(names):
        tensor = shards.tensor(name)
        narrow = torch.float16 in types and tensor.dtype != torch.float16
        if not is_finite(tensor):
            found.append(f"tensor {name} in {shards.place[name]} holds NaN or Inf")
        elif narrow and not is_finite(tensor, types):
            found.append(f"tensor {name} in {shards.place[name]} holds values too large for float16: they become Inf")
        shards.release([name])
    return found
