# SPDX-License-Identifier: GPL-3.0-or-later
"""Convert checkpoints between Hugging Face and Megatron-core, and look into Megatron-core ones.

    python convert_checkpoint.py hf2mcore --hf DIR --out DIR --tp N --pp N [--layers-per-stage 1,3] [--dtype bf16] [--json]
    python convert_checkpoint.py mcore2hf --mcore DIR --reference-hf DIR --out DIR [--json]
    python convert_checkpoint.py verify --hf DIR --mcore DIR --tp N --pp N [--layers-per-stage 1,3] [--dtype bf16] [--json]
    python convert_checkpoint.py verify --hf DIR [--device auto|cpu|npu|meta] [--json]
    python convert_checkpoint.py inspect DIR [--json]

Needs torch, nothing of Megatron or MindSpeed and no NPU; ``verify`` without a checkpoint loads the model through transformers, as
``verify_model.py`` does. Tensors are bit-identical to upstream's converter.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import _to_hf
import _to_mcore
import verify_model
from _common import WorkerError, run
from _inspect import inspect
from _verify_mcore import verify


def _ranks(text: str) -> List[Tuple[int, int]]:
    ranks = []
    for name in text.split(","):
        tp_rank, _, pp_rank = name.partition("_")
        if not tp_rank.isdigit() or not pp_rank.isdigit():
            raise argparse.ArgumentTypeError(f"{name!r} is not a rank: write tp_pp, for example 0_1")
        ranks.append((int(tp_rank), int(pp_rank)))
    return ranks


def _numbers(text: str) -> List[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,3") from None


def _add_shape(command: argparse.ArgumentParser, required: bool) -> None:
    """The options that say which model is laid out how."""
    command.add_argument(
        "--hf", type=Path, required=True, metavar="DIR", help="model directory with safetensors shards"
    )
    command.add_argument("--tp", type=int, required=required, help="tensor parallel size")
    command.add_argument("--pp", type=int, required=required, help="pipeline parallel size")
    command.add_argument("--layers-per-stage", type=_numbers, metavar="1,3", help="uneven pipeline stages")
    command.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], help="default: the model's own type")
    command.add_argument(
        "--vocab-divisible-by", type=int, default=1, metavar="N", help="pad the vocabulary to a multiple of N x TP"
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True)
    forth = commands.add_parser("hf2mcore", help="Hugging Face to Megatron-core")
    forth.add_argument("--out", type=Path, required=True, metavar="DIR", help="must not exist or be empty")
    compare = commands.add_parser(
        "verify",
        help="compare a Megatron-core checkpoint with its source, tensor by tensor; without one, load the model",
    )
    compare.add_argument("--mcore", type=Path, metavar="DIR", help="checkpoint directory with its tracker")
    compare.add_argument(
        "--device",
        choices=["auto", "cpu", "npu", "meta"],
        help="where a model is loaded; default: an NPU if there is one",
    )
    for command in (forth, compare):
        _add_shape(command, required=command is forth)
    forth.add_argument("--ranks", type=_ranks, metavar="0_0,1_0", help="write only these tp_pp ranks")
    forth.add_argument(
        "--tracker", choices=["release", "iteration"], default="release", help="release starts at iteration 0"
    )
    forth.add_argument(
        "--workers", type=int, default=1, help="ranks written at the same time; each needs one rank's memory"
    )
    forth.add_argument("--digests", action="store_true", help="add a digest over all tensors to the result")
    back = commands.add_parser("mcore2hf", help="Megatron-core to Hugging Face")
    back.add_argument(
        "--mcore",
        type=Path,
        required=True,
        metavar="DIR",
        help="checkpoint directory with its tracker, or one iteration",
    )
    back.add_argument("--reference-hf", type=Path, required=True, metavar="DIR", help="the model it was converted from")
    back.add_argument("--out", type=Path, required=True, metavar="DIR", help="must not exist or be empty")
    look = commands.add_parser("inspect", help="describe a Megatron-core checkpoint")
    look.add_argument("directory", type=Path)
    look.add_argument("--no-digests", action="store_true", help="leave out the sha256 of each tensor")
    for command in (forth, compare, back, look):
        command.add_argument("--json", action="store_true", help="the last line of output is one JSON object")
    return top


def _work(options: argparse.Namespace) -> Dict[str, Any]:
    if options.command == "inspect":
        return inspect(options.directory, not options.no_digests)
    if options.command == "mcore2hf":
        return _to_hf.convert(options.mcore, options.reference_hf, options.out)
    if options.command == "verify":
        return _verify(options)
    if options.workers < 1:
        raise WorkerError(f"--workers {options.workers} is not positive", "Give 1 or more.")
    return _to_mcore.convert(
        options.hf,
        options.out,
        options.tp,
        options.pp,
        layers_per_stage=options.layers_per_stage,
        dtype=options.dtype,
        ranks=options.ranks,
        tracker=options.tracker,
        divisible_by=options.vocab_divisible_by,
        workers=options.workers,
        digests=options.digests,
    )


def _verify(options: argparse.Namespace) -> Dict[str, Any]:
    if options.mcore is None:
        return verify_model.verify(_loading(options))
    if options.tp is None or options.pp is None or options.device is not None:
        raise WorkerError(
            "a checkpoint is compared at its --tp and --pp, on the CPU",
            "Give both and no --device, or leave out --mcore to load the model.",
        )
    shape = (options.hf, options.mcore, options.tp, options.pp)
    return verify(*shape, options.layers_per_stage, options.dtype, options.vocab_divisible_by)


def _loading(options: argparse.Namespace) -> argparse.Namespace:
    line = ["--model", str(options.hf), "--device", options.device or "auto"]
    return verify_model.parser().parse_args(line)


def _show(result: Dict[str, Any]) -> str:
    if "structure" in result:
        return verify_model.show(result)
    lines = [f"{key}: {value}" for key, value in result.items() if key != "files"]
    for name, one in result.get("files", {}).items():
        tensors = one.get("tensors")
        lines.append(f"{name}: {one['bytes']} bytes, {len(tensors) if isinstance(tensors, dict) else tensors} tensors")
        if isinstance(tensors, dict):
            lines += [
                f"  {key} {tensor['shape']} {tensor['dtype']} {tensor.get('sha256', '')}"
                for key, tensor in tensors.items()
            ]
    return "\n".join(lines)


def main(arguments: Optional[List[str]] = None) -> int:
    options = parser().parse_args(arguments)
    return run(lambda: _work(options), options.json, _show)


if __name__ == "__main__":
    sys.exit(main())
