# SPDX-License-Identifier: GPL-3.0-or-later
"""The loss that a Megatron training run logs, computed with a Hugging Face model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Iterable, List, Optional, Tuple

import numpy as np
import torch

ROWS = 512  # positions whose attention scores and logits are held at one time


@dataclass(frozen=True)
class Masking:
    """``pad``: id whose labels do not count and which is fed as id 0, as Megatron's dataset does; None for no such id.
    ``eod``: id at whose positions the loss does not count (--eod-mask-loss), or None.
    ``ends``: id after which a document ends that is computed by itself (packed samples), or None."""

    pad: Optional[int]
    eod: Optional[int]
    ends: Optional[int] = None


@dataclass(frozen=True)
class SampleLoss:
    """Sum of the losses of the positions that count, and their number."""

    total: float
    count: int


def sample_loss(
    model: Any, tokens: np.ndarray, masking: Masking, padded_vocab: Optional[int], device: str
) -> SampleLoss:
    """Loss of one sample of sequence length + 1 token ids."""
    text = torch.from_numpy(tokens)
    inputs, labels = text[:-1].clone(), text[1:].clone()
    documents = _documents(inputs, masking.ends)
    mask = torch.ones_like(labels, dtype=torch.bool)
    if masking.eod is not None:
        mask &= inputs != masking.eod
    if masking.pad is not None:
        mask &= labels != masking.pad
        inputs[inputs == masking.pad] = 0
        labels[labels == masking.pad] = 0
    with torch.no_grad():
        losses = torch.cat(
            [
                _document_losses(model, inputs[start:stop], labels[start:stop], padded_vocab, device)
                for start, stop in documents
            ]
        ).cpu()
    return SampleLoss(float(losses[mask].double().sum()), int(mask.sum()))


def _documents(inputs: torch.Tensor, ends: Optional[int]) -> List[Tuple[int, int]]:
    """First and one past the last position of each document of a sample; the end of a document is its last position."""
    last = [] if ends is None else [at + 1 for at in (inputs == ends).nonzero()[:, 0].tolist()]
    borders = sorted({0, *last, len(inputs)})
    return list(zip(borders, borders[1:]))


def _document_losses(
    model: Any, inputs: torch.Tensor, labels: torch.Tensor, padded_vocab: Optional[int], device: str
) -> torch.Tensor:
    """Losses of all positions of one document, ROWS of them at a time: what came before is kept as keys and values, so that
    the scores of all positions with all, of every head, need not fit into memory."""
    losses: List[torch.Tensor] = []
    before = None
    for at in range(0, len(inputs), ROWS):
        part = inputs[None, at : at + ROWS].to(device)
        found = model.base_model(input_ids=part, past_key_values=before, use_cache=len(inputs) > ROWS)
        before = found.past_key_values if len(inputs) > ROWS else None
        losses.append(_token_losses(model, found[0][0], labels[at : at + ROWS].to(device), padded_vocab))
    return torch.cat(losses)


def _token_losses(model: Any, hidden: torch.Tensor, labels: torch.Tensor, padded_vocab: Optional[int]) -> torch.Tensor:
    logits = model.get_output_embeddings()(hidden).float()
    normaliser = torch.logsumexp(logits, dim=-1)
    copies = (padded_vocab or 0) - logits.shape[-1]
    if copies > 0:
        # The converter pads the vocabulary with copies of the last row; the trainer's softmax runs over them too.
        normaliser = torch.logaddexp(normaliser, logits[:, -1] + math.log(copies))
    return normaliser - logits.gather(-1, labels[:, None])[:, 0]


def logged_loss(losses: Iterable[SampleLoss], micro_batch: int) -> float:
    """The mean over micro batches of each one's mean over positions: what ``lm loss`` is in the log."""
    samples = list(losses)
    means: List[float] = []
    for at in range(0, len(samples), micro_batch):
        part = samples[at : at + micro_batch]
        count = sum(one.count for one in part)
        means.append(sum(one.total for one in part) / count if count else math.nan)
    return sum(means) / len(means)
