# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a model takes, how much there is, and the first place that has room for it. All sizes in bytes."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Generic, List, Optional, TypeVar

import torch
from _common import WorkerError
from _cross_entropy import ROWS
from _model import Device, choose_device, first_line, out_of_memory
from _safetensors import read_header

T = TypeVar("T")
MARGIN = 1.1  # allocators round up and leave holes
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
FLOAT32 = 4


@dataclass(frozen=True)
class Need:
    """``weights`` and ``work`` (scores, logits, keys and values) where it computes; ``loading`` in main memory before that."""

    weights: int
    work: int
    loading: int

    @property
    def computing(self) -> int:
        return int((self.weights + self.work) * MARGIN)


@dataclass(frozen=True)
class Done(Generic[T]):
    """``result`` and ``place`` are None where no place has room; ``remarks`` say why a better place was passed over."""

    result: Optional[T]
    place: Optional[str]
    remarks: List[str]


def model_need(directory: Path, config: Any, element: Optional[int], tokens: int) -> Need:
    """Estimate for a model whose parameters take ``element`` bytes (None: as in config.json) and a text of ``tokens``."""
    own = config.torch_dtype if isinstance(getattr(config, "torch_dtype", None), torch.dtype) else torch.bfloat16
    stored = torch.empty((), dtype=own).element_size()
    files = [path for path in sorted(directory.iterdir()) if path.suffix in (".safetensors", ".bin")]
    safe = [path for path in files if path.suffix == ".safetensors"] or files  # both kinds would be the model twice
    weights = sum(_parameters(path, stored) for path in safe) * (element or stored)
    largest = max((path.stat().st_size for path in safe), default=0)
    return Need(weights, _work(config, element or stored, tokens), weights + largest)


def _parameters(path: Path, stored: int) -> int:
    if path.suffix == ".safetensors":
        try:
            sizes = [(one.bytes, torch.empty((), dtype=one.dtype).element_size()) for one in read_header(path).values()]
            return sum(size // element for size, element in sizes)
        except WorkerError:
            pass  # whoever loads the file says what is wrong with it
    return path.stat().st_size // stored


def _work(config: Any, element: int, tokens: int) -> int:
    """Beside the weights; models with own code may lack a figure, which then counts as nothing."""

    def figure(name: str, default: int = 0) -> int:
        return int(getattr(config, name, None) or default)

    rows, heads, hidden = min(tokens, ROWS), figure("num_attention_heads"), figure("hidden_size")
    width = figure("head_dim", hidden // max(heads, 1))
    scores = 3 * FLOAT32 * heads * rows * tokens  # scores, masked scores and their softmax, of one layer at a time
    kept = 2 * figure("num_hidden_layers") * figure("num_key_value_heads", heads) * width * tokens * element
    repeated = 2 * heads * width * tokens * element  # keys and values, laid out for every head
    layer = rows * (4 * hidden + 3 * figure("intermediate_size")) * element
    logits = 3 * FLOAT32 * rows * figure("vocab_size")
    return scores + kept + repeated + layer + logits


def device_with_need(wanted: str, need: Need) -> Device:
    """Choose as `choose_device`, but touch no NPU where main memory has no room for the way there: it may be training."""
    memory = available_memory()
    return choose_device("cpu" if wanted == "auto" and memory is not None and memory < need.loading else wanted)


def first_with_room(wanted: str, device: Device, need: Need, work: Callable[[str], T], remedy: str) -> Done[T]:
    """Do ``work`` on the device; with ``auto`` go on to the CPU where it lacks room, and then to none.

    A device that was asked for is tried unless the weights alone are too much, since the rest is an estimate. WorkerError with
    ``remedy`` where it lacks memory.
    """
    remarks: List[str] = []
    auto = wanted == "auto"
    for place in [device.name, "cpu"] if auto and device.name != "cpu" else [device.name]:
        problem, what = _shortage(place, need, certain=not auto), _words(place, need)
        if problem is None:
            try:
                return Done(work(place), place, remarks)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                problem = f"{what}, and it ran out of memory: {first_line(error)}"
            _give_back(place)  # only here: in the handler the traceback still holds the model
        if not auto:
            raise WorkerError(problem, remedy)
        remarks.append(problem)
    return Done(None, None, remarks)


def _shortage(place: str, need: Need, certain: bool) -> Optional[str]:
    """What is lacking, or None; with ``certain`` only what no estimate is needed for. What cannot be asked is not lacking."""
    free, memory = free_on(place), available_memory()
    least = need.weights if certain else need.computing
    if free is not None and free < least:
        return _words(place, need)
    loading = need.weights if certain else need.loading
    if memory is not None and memory < loading:
        return f"loading the model needs about {gib(need.loading)} of main memory, {gib(memory)} are free"
    return None


def _words(place: str, need: Need) -> str:
    free = free_on(place)
    there = "an unknown amount is" if free is None else f"{gib(free)} are"
    return f"the model needs about {gib(need.computing)} on {place}, {there} free"


def gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 20 else f"{size / 2**20:.1f} MiB"


def _give_back(place: str) -> None:
    gc.collect()
    if place.startswith("npu"):
        torch.npu.empty_cache()  # type: ignore[attr-defined]


def free_on(place: str) -> Optional[int]:
    """Free memory of the NPU in use, or of this machine; None where nobody says."""
    if not place.startswith("npu"):
        return available_memory()
    npu: Any = torch.npu  # type: ignore[attr-defined]
    try:
        if hasattr(npu, "mem_get_info"):
            return int(npu.mem_get_info()[0])
        return int(npu.get_device_properties(0).total_memory) - int(npu.memory_reserved(0))
    except (AttributeError, RuntimeError):
        return None


def available_memory() -> Optional[int]:
    """Memory that this process can get without swapping: the machine's, or less where a cgroup sets a limit."""
    known = [size for size in (_machine_memory(), *_cgroup_memory()) if size is not None]
    return min(known) if known else None


def _machine_memory() -> Optional[int]:
    kilobytes = _pairs(MEMINFO).get("MemAvailable:")
    return None if kilobytes is None else kilobytes * 1024


def _cgroup_memory() -> List[int]:
    """What the limits of cgroup v2 and v1 leave; the page cache counts as used there, and is given up for whoever needs it."""
    left: List[int] = []
    for limit, used, statistics, prefix in (
        ("memory.max", "memory.current", "memory.stat", ""),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_"),
    ):
        try:
            most, now = int((CGROUP / limit).read_text()), int((CGROUP / used).read_text())
        except (OSError, ValueError):
            continue  # no such hierarchy, or "max"
        cached = _pairs(CGROUP / statistics)
        left.append(max(0, most - now + sum(cached.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))))
    return left


def _pairs(path: Path) -> Dict[str, int]:
    """Lines of a name and a number; nothing where the file is absent."""
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
