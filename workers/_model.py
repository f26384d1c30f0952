# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading a model through transformers, on an NPU where there is one; nothing is downloaded and no code is trusted."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

import torch
from _common import WorkerError, require_directory

NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate memory")
NO_SUCH_TYPE = "device type"  # torch's words when a name such as npu means nothing to it


@dataclass(frozen=True)
class Device:
    """``name`` is what torch computes on; ``npus`` counts the NPUs that torch_npu offers."""

    name: str
    npus: int
    warnings: List[str]


def choose_device(wanted: str) -> Device:
    """``auto`` takes an NPU when torch_npu offers one, else the CPU. An NPU that fails is an error, not a fallback;
    one that is full is no failure."""
    if wanted in ("cpu", "meta"):
        return Device(wanted, 0, [])
    npus = _count_npus(wanted == "npu")
    if not npus:
        if wanted == "npu":
            raise WorkerError("torch_npu offers no NPU here", "Check the container's devices with npu-smi info.")
        return Device("cpu", 0, [])
    try:
        torch.npu.set_device(0)  # type: ignore[attr-defined]
        torch.zeros(1, device="npu:0")
    except RuntimeError as error:
        text = str(error).splitlines()[0]
        if NO_SUCH_TYPE in text and wanted == "auto":
            return Device("cpu", npus, [f"torch_npu offers {npus} NPU(s) but computes on the CPU"])
        if out_of_memory(error) and wanted == "auto":
            return Device("cpu", npus, [f"NPU 0 has no memory left: {text}"])
        raise WorkerError(
            f"NPU 0 cannot be used: {text}", "Look up the code with the driver's log; free the NPU."
        ) from error
    return Device("npu:0", npus, [])


def _count_npus(required: bool) -> int:
    try:
        importlib.import_module("torch_npu")
    except ImportError as error:
        if required:
            raise WorkerError(f"torch_npu cannot be imported: {error}", "Source CANN's set_env.sh first.") from error
        return 0
    return int(torch.npu.device_count())  # type: ignore[attr-defined]


def load_config(directory: Path, trust_remote_code: bool) -> Any:
    """The model's configuration object; own code in the model directory is refused unless trusted."""
    require_directory(directory, "model")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import AutoConfig  # type: ignore[import-untyped]

    try:
        config = AutoConfig.from_pretrained(str(directory), local_files_only=True, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise WorkerError(
            f"the configuration in {directory} cannot be loaded: {first_line(error)}",
            "Copy config.json of the model; a model with own code needs --trust-remote-code.",
        ) from error
    return _with_its_rotary_base(config)


def _with_its_rotary_base(config: Any) -> Any:
    """transformers 5 writes the base among ``rope_parameters``; older ones, which the images have, pass over that name and
    compute with their default, while the checkpoint is trained with the base that is written there."""
    both = getattr(config, "rope_parameters", None)
    base = both.get("rope_theta") if isinstance(both, dict) else None
    if base is not None and hasattr(config, "rope_theta"):
        config.rope_theta = base
    return config


def load_model(
    directory: Path, config: Any, dtype: Any, device: str, trust_remote_code: bool = False, allow_pickle: bool = False
) -> Any:
    """The model in evaluation mode on ``device``. Weights that are missing, left over or misshapen are an error:
    transformers would initialise them at random and only print a warning. A lack of memory is torch's own RuntimeError,
    for `_memory.first_with_room`."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging  # type: ignore[import-untyped]

    logging.disable_progress_bar()  # stderr carries our progress lines

    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            str(directory),
            config=config,
            torch_dtype=dtype,
            use_safetensors=None if allow_pickle else True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if out_of_memory(error):
            raise  # says nothing about the files
        raise WorkerError(
            f"the model in {directory} cannot be loaded: {first_line(error)}",
            "Copy the damaged or missing files again; pickled weights need --allow-pickle.",
        ) from error
    _refuse_random(directory, report)
    return model.eval().to(device)


def _refuse_random(directory: Path, report: Dict[str, Any]) -> None:
    for kind, words in (
        ("missing_keys", "has no"),
        ("mismatched_keys", "has a wrong shape for"),
        ("unexpected_keys", "has an unknown"),
    ):
        names = [str(name) for name in report.get(kind) or [] if not str(name).endswith("rotary_emb.inv_freq")]
        if names:
            raise WorkerError(
                f"{directory} {words} weight {names[0]} ({len(names)} in all)",
                "Take config and weights from one revision.",
            )


def first_line(error: BaseException) -> str:
    lines: List[str] = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was lacking, on an NPU or on the CPU: torch says so only in words."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY)
