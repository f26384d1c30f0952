# SPDX-License-Identifier: GPL-3.0-or-later
"""Device names and numbers that mean an NPU mean the CPU: in what makes tensors, moves them, and loads them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

_FACTORIES = (
    *("arange", "as_tensor", "empty", "empty_strided", "eye", "full", "linspace", "logspace", "ones", "rand"),
    *("randint", "randn", "randperm", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros"),
    *("empty_like", "full_like", "ones_like", "rand_like", "randint_like", "randn_like", "zeros_like"),
)
_NEW = ("new_empty", "new_full", "new_ones", "new_tensor", "new_zeros")
_TYPES = ("BFloat16", "Bool", "Byte", "Double", "Float", "Half", "Int", "Long")
_TYPE_PREFIXES = ("torch.npu.", "torch.cuda.")
_CPU = torch.device("cpu")


def is_npu(device: object) -> bool:
    """Return whether a value given as a device names an NPU; a plain number is the number of one."""
    if isinstance(device, torch.device):
        return device.type in ("cuda", "npu")
    if isinstance(device, str):
        return device.partition(":")[0] in ("cuda", "npu")
    return isinstance(device, int) and not isinstance(device, bool)


def redirect_tensors() -> None:
    """Make every way to put a tensor, a module or a generator on an NPU end on the CPU."""
    for name in _FACTORIES:
        setattr(torch, name, _with_device_argument(getattr(torch, name)))
    for name in _NEW:
        setattr(torch.Tensor, name, _with_device_argument(getattr(torch.Tensor, name)))
    for kind in (torch.Tensor, torch.nn.Module):
        setattr(kind, "to", _with_device_first(getattr(kind, "to")))  # noqa: B009, B010
        for name in ("cuda", "npu"):
            setattr(kind, name, _stay)
    torch.Tensor.type = _with_type_name(torch.Tensor.type)  # type: ignore[method-assign, assignment]
    for name in _TYPES:
        setattr(torch.cuda, f"{name}Tensor", getattr(torch, f"{name}Tensor"))
        setattr(torch.npu, f"{name}Tensor", getattr(torch, f"{name}Tensor"))  # type: ignore[attr-defined]
    torch.load = _with_trust(torch.load)


def _with_device_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if "device" in kwargs and is_npu(kwargs["device"]):
            kwargs["device"] = _CPU
        return function(*args, **kwargs)

    return wrapper


def _with_device_first(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `to`, which takes a device in first place or by name."""
    by_name = _with_device_argument(function)

    @functools.wraps(function)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if args and is_npu(args[0]):
            args = (_CPU, *args[1:])
        return by_name(self, *args, **kwargs)

    return wrapper


def _with_type_name(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `Tensor.type`, which without arguments says what a tensor on an NPU would say, and takes such a name."""

    @functools.wraps(function)
    def wrapper(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not args and not kwargs:
            return f"{_TYPE_PREFIXES[0]}{function(self).removeprefix('torch.')}"
        if args and isinstance(args[0], str):
            for prefix in _TYPE_PREFIXES:
                args = (args[0].replace(prefix, "torch."), *args[1:])
        return function(self, *args, **kwargs)

    return wrapper


def _with_trust(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `torch.load`: whole objects by default, as torch 2.1 does, and tensors of an NPU come to the CPU."""

    @functools.wraps(function)
    def wrapper(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("weights_only", False)
        return function(f, _CPU if is_npu(map_location) else map_location, *args, **kwargs)

    return wrapper


def _stay(self: Any, *_args: Any, **_kwargs: Any) -> Any:
    """Stand for `cuda()` and `npu()` of tensors and modules: they are there already."""
    return self
