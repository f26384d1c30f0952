# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulated operators of torch_npu against plain torch's own: values, gradients, types, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.unit.upstream.conftest import load_source

operators = load_source("torch_npu_cpu/torch_npu/_operators.py")
attention = load_source("torch_npu_cpu/torch_npu/_attention.py")
BATCH, PLACES, HEADS, GROUPS, SIZE = 2, 6, 4, 2, 8


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of normal values with a gradient."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()


def assert_same(found: Tensor, expected: Tensor, *leaves: Tensor) -> None:
    """Values agree, and so do the gradients of the leaves."""
    torch.testing.assert_close(found, expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9))
    ours = torch.autograd.grad((found * weights).sum(), leaves)
    theirs = torch.autograd.grad((expected * weights).sum(), leaves)
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other)


def test_rms_norm() -> None:
    x, gamma = drawn(3, 5, 16), drawn(16, seed=1)
    found, reciprocal = operators.npu_rms_norm(x, gamma, epsilon=1e-3)
    assert_same(found, functional.rms_norm(x, (16,), gamma, 1e-3), x, gamma)
    torch.testing.assert_close(reciprocal.squeeze(-1), (x.pow(2).mean(-1) + 1e-3).rsqrt())


@pytest.mark.parametrize("dim", [-1, 0])
def test_swiglu(dim: int) -> None:
    x = drawn(4, 6)
    gate, value = x.split(x.shape[dim] // 2, dim)
    assert_same(operators.npu_swiglu(x, dim), functional.silu(gate) * value, x)


@pytest.mark.parametrize("mode", [0, 1])
def test_rotary_embedding_is_a_product_of_complex_numbers(mode: int) -> None:
    x, angles = drawn(PLACES, BATCH, HEADS, SIZE), torch.linspace(0.0, 3.0, PLACES * SIZE // 2).view(PLACES, 1, 1, -1)
    pairs = x.unflatten(-1, (2, -1)).transpose(-1, -2) if mode == 0 else x.unflatten(-1, (-1, 2))
    turned = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones(()), angles))
    expected = turned.transpose(-1, -2).flatten(-2) if mode == 0 else turned.flatten(-2)
    wide = torch.cat((angles, angles), -1) if mode == 0 else angles.repeat_interleave(2, -1)
    assert_same(operators.rotary_position_embedding(x, wide.cos(), wide.sin(), mode), expected, x)


def test_rotary_embedding_refuses_what_the_npu_refuses() -> None:
    for shape in ((2, 3, 8), (2, 3, 4, 7)):
        with pytest.raises(ValueError, match="rotary embedding of"):
            operators.rotary_position_embedding(torch.zeros(shape), torch.zeros(shape), torch.zeros(shape))
    four = torch.zeros(1, 1, 1, 2)
    with pytest.raises(ValueError, match="mode 2"):
        operators.rotary_position_embedding(four, four, four, 2)


def test_rotary_mul_names_its_modes() -> None:
    x, angles = drawn(PLACES, BATCH, HEADS, SIZE), torch.rand(PLACES, 1, 1, SIZE)
    for name, mode in (("half", 0), ("interleave", 1)):
        expected = operators.rotary_position_embedding(x, angles.cos(), angles.sin(), mode)
        assert torch.equal(operators.npu_rotary_mul(x, angles.cos(), angles.sin(), name), expected)


def test_scaled_masked_softmax() -> None:
    x, mask = drawn(BATCH, HEADS, PLACES, PLACES), torch.ones(PLACES, PLACES, dtype=torch.bool).triu(1)
    expected = torch.softmax((x * 0.5).masked_fill(mask, float("-inf")), -1)
    found = operators.npu_scaled_masked_softmax(x, mask, 0.5)
    assert torch.equal(operators.npu_scaled_masked_softmax(x, None, 0.5, True), found)
    assert_same(found, expected, x)


@pytest.mark.parametrize("maximize", [False, True])
def test_adam_is_torchs_with_the_powers_of_the_step_before(maximize: bool, model_imports: None) -> None:
    start = drawn(5, 3).detach()
    theirs = start.clone().requires_grad_()
    settings: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-6, "weight_decay": 0.2}
    optimizer = torch.optim.AdamW([theirs], maximize=maximize, **settings)
    ours, mean, square = start.clone(), torch.zeros(5, 3), torch.zeros(5, 3)
    for step in (1, 2, 3):
        theirs.grad = drawn(5, 3, seed=step).detach()
        optimizer.step()
        powers = (0.9 ** (step - 1), 0.95 ** (step - 1))
        rest = (0.1, 0.2, 0.9, 0.95, 1e-6, theirs.grad, None, False, maximize)
        operators.npu_apply_adam_w(*powers, *rest, out=(ours, mean, square))
        torch.testing.assert_close(ours, theirs.detach())
    with pytest.raises(NotImplementedError, match="amsgrad"):
        operators.npu_apply_adam_w(
            1.0, 1.0, 0.1, 0.0, 0.9, 0.9, 1e-6, ours, None, True, False, out=(ours, mean, square)
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_types_come_back(dtype: torch.dtype) -> None:
    x = drawn(PLACES, BATCH, HEADS, SIZE, dtype=dtype)
    turn = torch.ones(PLACES, 1, 1, SIZE, dtype=dtype)
    results = [
        operators.npu_rms_norm(x, torch.ones(SIZE))[0],
        operators.npu_swiglu(x),
        operators.npu_rotary_mul(x, turn, turn),
        attention.npu_fusion_attention(x, x, x, HEADS, "BSND")[0],
    ]
    assert {result.dtype for result in results} == {dtype}


def heads_first(layout: str, part: Tensor) -> Tensor:
    """(batch, heads, places, size) in the layout that is asked for."""
    turned = {"SBH": (2, 0, 1, 3), "BSH": (0, 2, 1, 3), "BSND": (0, 2, 1, 3), "BNSD": (0, 1, 2, 3)}[layout]
    part = part.permute(turned)
    return part.flatten(2) if layout in ("SBH", "BSH") else part


@pytest.mark.parametrize("layout", ["SBH", "BSH", "BSND", "BNSD"])
def test_attention_in_every_layout_with_fewer_key_heads(layout: str) -> None:
    query, key, value = drawn(BATCH, HEADS, PLACES, SIZE), *(drawn(BATCH, GROUPS, PLACES, SIZE, seed=n) for n in (1, 2))
    parts = [heads_first(layout, part) for part in (query, key, value)]
    small_triangle = torch.ones(3, 3, dtype=torch.bool).triu(1)  # the compressed mask has a size of its own
    found, *rest = attention.npu_fusion_attention(
        *parts, HEADS, layout, atten_mask=small_triangle, scale=0.3, sparse_mode=2
    )
    expected = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3, enable_gqa=True)
    assert_same(found, heads_first(layout, expected), query, key, value)
    assert rest == [None, None, None, 0, 0, 0]


SEEN = torch.ones(4, 6, dtype=torch.bool)
ODD = torch.arange(24).view(4, 6) % 5 == 0


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({}, SEEN),
        ({"atten_mask": ODD}, ~ODD),
        ({"atten_mask": ODD, "next_tockens": 0}, SEEN.tril() & ~ODD),
        ({"atten_mask": ODD, "pre_tockens": 1, "next_tockens": 2}, SEEN.tril(2).triu(-1) & ~ODD),
        ({"atten_mask": ODD, "sparse_mode": 1, "next_tockens": 0}, ~ODD),
        ({"sparse_mode": 2}, SEEN.tril()),
        ({"sparse_mode": 3}, SEEN.tril(2)),
        ({"sparse_mode": 4, "pre_tockens": 1, "next_tockens": 0}, SEEN.tril(2).triu(1)),
    ],
)
def test_attention_hides_what_the_mode_says(options: dict[str, Any], seen: Tensor) -> None:
    query, key, value = drawn(1, HEADS, 4, SIZE), drawn(1, HEADS, 6, SIZE, seed=1), drawn(1, HEADS, 6, SIZE, seed=2)
    found = attention.npu_fusion_attention(query, key, value, HEADS, "BNSD", scale=0.3, **options)[0]
    expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=0.3)
    assert_same(found, expected.nan_to_num(0.0), query, key, value)


def test_attention_stays_within_each_text() -> None:
    ends = [2, 3, 7]
    query, key, value = (drawn(7, HEADS, SIZE, seed=seed) for seed in range(3))
    options = {"actual_seq_qlen": ends, "actual_seq_kvlen": torch.tensor(ends), "sparse_mode": 3, "scale": 0.3}
    found = attention.npu_fusion_attention(query, key, value, HEADS, "TND", **options)[0]
    text = torch.tensor([0, 0, 1, 2, 2, 2, 2])
    seen = (text[:, None] == text) & torch.ones(7, 7, dtype=torch.bool).tril()
    parts = [part.transpose(0, 1)[None] for part in (query, key, value)]
    expected = functional.scaled_dot_product_attention(*parts, attn_mask=seen, scale=0.3)
    assert_same(found, expected[0].transpose(0, 1), query, key, value)


@pytest.mark.parametrize(
    "options",
    [{"pse": torch.zeros(1)}, {"keep_prob": 0.9}, {"prefix": [1]}, {"sparse_mode": 5, "input_layout": "BNSD"}],
)
def test_attention_says_what_it_does_not_do(options: dict[str, Any]) -> None:
    part = drawn(1, HEADS, 4, SIZE)
    with pytest.raises(NotImplementedError, match="npu_fusion_attention has no"):
        attention.npu_fusion_attention(part, part, part, HEADS, **{"input_layout": "BNSD", **options})
