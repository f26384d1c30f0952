# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of torch.npu that trainers and probes call, answered from the davinci nodes and the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from torch_npu import _devices
from torch_npu._streams import Event, Generators, Stream, current_stream, default_stream, set_stream, stream

__all__ = ["Event", "Stream", "current_stream", "default_stream", "set_stream", "stream"]
default_generators = Generators()


def device_count() -> int:
    """Return how many NPU nodes this process can open and is allowed to see."""
    return len(_devices.visible_nodes())


def is_available() -> bool:
    """Return whether at least one NPU node can be opened."""
    return device_count() > 0


def set_device(device: int | str | torch.device) -> None:
    """Choose a logical device and hold its node open; DeviceError (107001) when there is none of that id."""
    _devices.hold(_index(device))


def current_device() -> int:
    """Return the logical id of the current device."""
    return _devices.current()


def get_device_name(device: int | str | torch.device | None = None) -> str:
    """Return the name of a device, which says that it is a stand-in."""
    return _devices.name_of(_devices.current() if device is None else _index(device))


@contextmanager
def device(chosen: object) -> Iterator[None]:
    """Run the block on a device; -1 and None mean the current one."""
    index = -1 if chosen is None else _index(chosen)
    before = _devices.current()
    if index >= 0:
        _devices.hold(index)
    yield
    if index >= 0:
        _devices.hold(before)


def get_device_properties(chosen: object = None) -> SimpleNamespace:
    """Return the name of a device and the machine's memory in bytes, for want of NPU memory."""
    return SimpleNamespace(name=get_device_name(None), total_memory=mem_get_info()[1])


def init() -> None:
    """Do nothing: there is no NPU to prepare."""


def is_initialized() -> bool:
    """Return True: there is nothing to prepare."""
    return True


def _lazy_call(function: Callable[[], Any], **_kwargs: object) -> None:
    """Call at once: what waits for an NPU to be prepared elsewhere need not wait here."""
    function()


def synchronize(device: object = None) -> None:
    """Do nothing: work on the CPU is done when a call returns."""


def empty_cache() -> None:
    """Do nothing: there is no NPU memory."""


def manual_seed(seed: int) -> None:
    """Seed the CPU's generator (not through torch.manual_seed, which calls back into torch.cuda)."""
    torch.default_generator.manual_seed(seed)


manual_seed_all = manual_seed


def get_rng_state(device: object = None) -> torch.Tensor:
    """Return the CPU generator's state."""
    return torch.get_rng_state()


def set_rng_state(state: torch.Tensor, device: object = None) -> None:
    """Set the CPU generator's state."""
    torch.set_rng_state(state)


def initial_seed() -> int:
    """Return the seed that the CPU's generator was given."""
    return torch.initial_seed()


def memory_stats(device: object = None) -> dict[str, int]:
    """Return the figures of an allocator that there is none of: each is 0."""
    return _NoFigures()


class _NoFigures(dict[str, int]):
    def __missing__(self, key: str) -> int:
        return 0


def reset_max_memory_allocated(device: object = None) -> None:
    """Do nothing: a process cannot forget its highest resident memory."""


def mem_get_info(device: object = None) -> tuple[int, int]:
    """Return the machine's available and whole memory in bytes."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return kilobytes["MemAvailable"] * 1024, kilobytes["MemTotal"] * 1024


def memory_allocated(device: object = None) -> int:
    """Return the resident memory of this process in bytes, for want of NPU memory."""
    return _status_bytes("VmRSS")


def max_memory_allocated(device: object = None) -> int:
    """Return the highest resident memory of this process so far in bytes."""
    return _status_bytes("VmHWM")


memory_reserved = memory_allocated
max_memory_reserved = max_memory_allocated
reset_peak_memory_stats = reset_max_memory_allocated


def _index(device: Any) -> int:
    if isinstance(device, str):
        device = device.removeprefix("npu:").removeprefix("cuda:")
    if isinstance(device, torch.device):
        device = device.index or 0
    return int(device)


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0
