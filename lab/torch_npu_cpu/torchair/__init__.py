# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of torchair (graphs for the NPU) that MindSpeed needs to define its operators; no graph is made here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torchair import ge

__all__ = ["ge", "register_fx_node_ge_converter"]
Converter = TypeVar("Converter", bound=Callable[..., object])


def register_fx_node_ge_converter(operator: object) -> Callable[[Converter], Converter]:
    """Take a converter of `operator` and leave it alone."""
    return lambda converter: converter
