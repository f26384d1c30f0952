# SPDX-License-Identifier: GPL-3.0-or-later
"""What MindSpeed compiles for the NPU at run time, in plain torch: torch's loader of C++ extensions hands these out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from torch.utils import cpp_extension

from torch_npu._operators import rotary_position_embedding

# Name of the extension -> what its module offers.
EMULATED = {"npu_rotary_position_embedding": {"npu_rotary_position_embedding": rotary_position_embedding}}
# Where MindSpeed keeps the sources that need CANN.
_SOURCES_FOR_NPU = "ops/csrc"


def emulate_extensions() -> None:
    """Let torch's loader know the emulated extensions; those for the CPU are compiled as ever."""
    cpp_extension.load = _load(cpp_extension.load)


def _load(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(name: str, sources: str | Sequence[str], *args: Any, **kwargs: Any) -> Any:
        if name in EMULATED:
            return SimpleNamespace(**EMULATED[name])
        if any(_SOURCES_FOR_NPU in str(path) for path in ([sources] if isinstance(sources, str) else sources)):
            raise NotImplementedError(f"{name} is compiled for an NPU, and the lab's CPU stand-in does not emulate it")
        return function(name, sources, *args, **kwargs)

    return wrapper
