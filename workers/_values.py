# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions about the values of tensors that are answered from their bits, in any torch and for every type."""

from __future__ import annotations

from typing import Iterable, Optional

import torch

# Integer type of the same size, and the exponent bits that are all set in NaN and Inf.
EXPONENTS = {
    torch.float32: (torch.int32, 0x7F800000),
    torch.float16: (torch.int16, 0x7C00),
    torch.bfloat16: (torch.int16, 0x7F80),
}
PIECE = 1 << 18  # values that are looked at together


def is_finite(tensor: torch.Tensor, types: Iterable[Optional[torch.dtype]] = ()) -> bool:
    """Look for the exponent of NaN and Inf in the bits, in small pieces, each cast to ``types`` one after the other first."""
    return all(_is_finite(piece, types) for piece in tensor.reshape(-1).split(PIECE))


def _is_finite(piece: torch.Tensor, types: Iterable[Optional[torch.dtype]]) -> bool:
    for dtype in types:
        piece = piece if dtype is None else piece.to(dtype)
    kind, exponent = EXPONENTS[piece.dtype]
    return piece.numel() == 0 or int((piece.view(kind) & exponent).amax()) != exponent


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Equal as bytes: NaN equals itself, and 0.0 is not -0.0."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    one, other = (tensor.contiguous().view(-1).view(torch.uint8) for tensor in (first, second))
    return torch.equal(one, other)


def same_values(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Equal as numbers, also where the types differ; NaN equals itself."""
    if first.dtype == second.dtype:
        return same_bits(first, second)
    pieces = zip(first.reshape(-1).split(PIECE), second.reshape(-1).split(PIECE))
    return first.shape == second.shape and all(same_bits(one.double(), other.double()) for one, other in pieces)
