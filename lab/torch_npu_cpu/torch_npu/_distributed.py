# SPDX-License-Identifier: GPL-3.0-or-later
"""Collectives: the names of device backends mean gloo here."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed

_mapped: set[str] = set()


def use_gloo_for(names: tuple[str, ...]) -> None:
    """Make process groups asked for with one of `names` gloo groups."""
    first = not _mapped
    _mapped.update(names)
    if first:
        torch.distributed.init_process_group = _with_gloo(torch.distributed.init_process_group)
        torch.distributed.new_group = _with_gloo(torch.distributed.new_group)


def _with_gloo(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if (
            args and isinstance(args[0], str) and args[0] in _mapped
        ):  # only init_process_group takes the backend in first place
            args = ("gloo", *args[1:])
        if kwargs.get("backend") in _mapped:
            kwargs["backend"] = "gloo"
        kwargs.pop("pg_options", None)
        _take_interface()
        return function(*args, **kwargs)

    return wrapper


def _take_interface() -> None:
    """Let gloo use the interface that HCCL was told to use: HCCL_SOCKET_IFNAME, names or prefixes."""
    wanted = os.environ.get("HCCL_SOCKET_IFNAME", "")
    if not wanted or wanted.startswith("^") or "GLOO_SOCKET_IFNAME" in os.environ:
        return
    present = sorted(entry.name for entry in Path("/sys/class/net").iterdir())
    for entry in wanted.removeprefix("=").split(","):
        exact = wanted.startswith("=")
        match = [name for name in present if name == entry or (not exact and name.startswith(entry))]
        if match:
            os.environ["GLOO_SOCKET_IFNAME"] = match[0]
            return
