# SPDX-License-Identifier: GPL-3.0-or-later
"""npu_fusion_attention in plain torch: layouts, masks and the modes in which masks are given; no dropout."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

# What `sparse_mode` says about the mask that is handed in.
BAND_OF_MASK, WHOLE_MASK, CAUSAL_LEFT, CAUSAL_RIGHT, BAND = range(5)
ALL_TOKENS = 2147483647


def npu_fusion_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    head_num: int,
    input_layout: str,
    pse: Tensor | None = None,
    padding_mask: Tensor | None = None,
    atten_mask: Tensor | None = None,
    scale: float = 1.0,
    keep_prob: float = 1.0,
    pre_tockens: int = ALL_TOKENS,
    next_tockens: int = ALL_TOKENS,
    inner_precise: int = 0,
    prefix: list[int] | None = None,
    actual_seq_qlen: list[int] | Tensor | None = None,
    actual_seq_kvlen: list[int] | Tensor | None = None,
    sparse_mode: int = BAND_OF_MASK,
    gen_mask_parallel: bool = True,
    sync: bool = False,
) -> tuple[Tensor, None, None, None, int, int, int]:
    """Return (attention in the query's layout and type, no intermediate results, and zeros for the dropout's state).

    Layouts: SBH and BSH (H = heads x size), BNSD, BSND, and TND with the ends of the texts in `actual_seq_*`. Keys and
    values may have fewer heads than queries. A true place of `atten_mask` hides; modes 2 to 4 do not look at it, since
    it is the same compressed triangle every time. NotImplementedError for what is not emulated.
    """
    if pse is not None or padding_mask is not None or prefix is not None or keep_prob != 1.0:
        raise NotImplementedError("the CPU stand-in's npu_fusion_attention has no pse, padding, prefix or dropout")
    options = _Options(scale, sparse_mode, pre_tockens, next_tockens)
    if input_layout == "TND":
        output = _by_text(query, key, value, atten_mask, options, actual_seq_qlen, actual_seq_kvlen)
    else:
        wide = [_to_heads(part, input_layout, head_num, query) for part in (query, key, value)]
        output = _from_heads(_attention(options, atten_mask, *wide), input_layout)
    return output.to(query.dtype), None, None, None, 0, 0, 0


class _Options:
    """How scores are scaled and which places count."""

    def __init__(self, scale: float, mode: int, before: int, after: int) -> None:
        self.scale, self.mode, self.before, self.after = scale, mode, before, after

    def hidden(self, queries: int, keys: int, mask: Tensor | None) -> Tensor | None:
        """Return the places (queries, keys) that do not count; None where all do."""
        if self.mode == BAND_OF_MASK:
            return None if mask is None else mask.bool() | self._outside_band(queries, keys, 0)
        if self.mode == WHOLE_MASK:
            if mask is None:
                raise ValueError("sparse_mode 1 needs an atten_mask")
            return mask.bool()
        later = torch.ones(queries, keys, dtype=torch.bool)
        if self.mode == CAUSAL_LEFT:
            return later.triu(1)
        if self.mode == CAUSAL_RIGHT:
            return later.triu(1 + keys - queries)
        if self.mode == BAND:
            return self._outside_band(queries, keys, keys - queries)
        raise NotImplementedError(f"the CPU stand-in's npu_fusion_attention has no sparse_mode {self.mode}")

    def _outside_band(self, queries: int, keys: int, shift: int) -> Tensor:
        distance = torch.arange(keys) - torch.arange(queries).unsqueeze(1) - shift
        return (distance > self.after) | (distance < -self.before)


def _attention(options: _Options, mask: Tensor | None, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return (batch, heads, queries, size) in fp32; key and value heads are repeated for groups of query heads."""
    repeats = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(repeats, 1) for part in (key, value))
    scores = query @ key.transpose(-1, -2) * options.scale
    hidden = options.hidden(query.shape[-2], key.shape[-2], mask)
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    # A query that sees nothing gets zeros, as it does from the NPU.
    return torch.softmax(scores, -1).nan_to_num(0.0) @ value


def _to_heads(part: Tensor, layout: str, heads: int, query: Tensor) -> Tensor:
    """Bring query, key or value to (batch, heads, places, size) in fp32."""
    if layout in ("SBH", "BSH"):
        size = query.shape[-1] // heads
        part = part.unflatten(-1, (-1, size))
    order = {"SBH": (1, 2, 0, 3), "BSH": (0, 2, 1, 3), "BSND": (0, 2, 1, 3), "BNSD": (0, 1, 2, 3)}
    if layout not in order:
        raise NotImplementedError(f"the CPU stand-in's npu_fusion_attention has no layout {layout}")
    return part.permute(order[layout]).float()


def _from_heads(output: Tensor, layout: str) -> Tensor:
    """The inverse of `_to_heads`, contiguous."""
    order = {"SBH": (2, 0, 1, 3), "BSH": (0, 2, 1, 3), "BSND": (0, 2, 1, 3), "BNSD": (0, 1, 2, 3)}[layout]
    turned = output.permute(order)
    return (turned.flatten(2) if layout in ("SBH", "BSH") else turned).contiguous()


def _by_text(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    options: _Options,
    query_ends: list[int] | Tensor | None,
    key_ends: list[int] | Tensor | None,
) -> Tensor:
    """Attend within each text of (tokens, heads, size); texts follow one another and end where `*_ends` says."""
    if query_ends is None or key_ends is None:
        raise ValueError("layout TND needs actual_seq_qlen and actual_seq_kvlen")
    pieces = []
    for rows, columns in zip(pairwise([0, *map(int, query_ends)]), pairwise([0, *map(int, key_ends)]), strict=True):
        parts = (query[slice(*rows)], key[slice(*columns)], value[slice(*columns)])
        wide = [part.transpose(0, 1).unsqueeze(0).float() for part in parts]
        pieces.append(_attention(options, mask, *wide).squeeze(0).transpose(0, 1))
    return torch.cat(pieces)
