# SPDX-License-Identifier: GPL-3.0-or-later
"""Wall time and peak memory of converting a 0.5B-parameter model at TP2 PP2, the native engine beside upstream's script.

    python benchmarks/convert.py [--upstream DIR [--upstream-python PYTHON]] [--rounds 2]

DIR holds clones of MindSpeed-LLM, MindSpeed and Megatron-LM; without it only the native engine is measured. Hashing is no part
of either side. Prints one line a run, the ratios, and the machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]  # for `python benchmarks/convert.py`, too

from benchmarks._measure import Measured, machine, measure  # noqa: E402 - the path has to be set first
from benchmarks._upstream import ROOT, Upstream, check_out, default_python  # noqa: E402 - the path has to be set first

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 4096,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 4096,
    "hidden_act": "silu",
    "bos_token_id": 0,
    "eos_token_id": 0,
}
SHARDS = 4
TP = PP = 2


def make_model(directory: Path) -> int:
    """Write a model of 0.49 billion parameters with random weights in four shards; return the bytes of its weights."""
    random = torch.Generator().manual_seed(5)
    shapes = _shapes()
    names = sorted(shapes)
    size, weight_map = 0, {}
    for number in range(SHARDS):
        file = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        mine = names[number::SHARDS]
        tensors = {name: (torch.randn(shapes[name], generator=random) * 0.02).to(torch.bfloat16) for name in mine}
        save_file(tensors, directory / file, {"format": "pt"})
        size += sum(tensor.numel() * 2 for tensor in tensors.values())
        weight_map.update(dict.fromkeys(mine, file))
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text(json.dumps(CONFIG))
    return size


def _shapes() -> dict[str, tuple[int, ...]]:
    hidden, ffn, vocab, kv = 1024, 4096, 32000, 256
    shapes: dict[str, tuple[int, ...]] = {"model.norm.weight": (hidden,)}
    shapes["model.embed_tokens.weight"] = shapes["lm_head.weight"] = (vocab, hidden)
    for layer in range(28):
        at = f"model.layers.{layer}."
        shapes[at + "input_layernorm.weight"] = shapes[at + "post_attention_layernorm.weight"] = (hidden,)
        for name, rows in (("q", hidden), ("k", kv), ("v", kv)):
            shapes[f"{at}self_attn.{name}_proj.weight"] = (rows, hidden)
            shapes[f"{at}self_attn.{name}_proj.bias"] = (rows,)
        shapes[at + "self_attn.o_proj.weight"] = (hidden, hidden)
        shapes[at + "mlp.gate_proj.weight"] = shapes[at + "mlp.up_proj.weight"] = (ffn, hidden)
        shapes[at + "mlp.down_proj.weight"] = (hidden, ffn)
    return shapes


def native(model: Path, workers: int, out: Path) -> Measured:
    """Convert with the program of this repository."""
    argv = [sys.executable, str(ROOT / "workers" / "convert_checkpoint.py"), "hf2mcore", "--hf", str(model)]
    argv += [
        "--out",
        str(out),
        "--tp",
        str(TP),
        "--pp",
        str(PP),
        "--dtype",
        "bf16",
        "--workers",
        str(workers),
        "--json",
    ]
    return _checked(measure(argv), "native", out, "release")


def upstream(source: Upstream, model: Path, out: Path) -> Measured:
    """Convert with the pinned release's own script."""
    argv = [source.python, "convert_ckpt.py", "--use-mcore-models", "--model-type", "GPT", "--load-model-type", "hf"]
    argv += ["--save-model-type", "mg", "--model-type-hf", "llama2", "--add-qkv-bias", "--params-dtype", "bf16"]
    argv += ["--target-tensor-parallel-size", str(TP), "--target-pipeline-parallel-size", str(PP)]
    argv += ["--load-dir", str(model), "--save-dir", str(out), "--tokenizer-model", str(model / "tokenizer.json")]
    return _checked(measure(argv, source.tree, source.environment()), "upstream", out, "iter_0000001")


def _checked(result: Measured, name: str, out: Path, iteration: str) -> Measured:
    shards = len(list((out / iteration).glob("*/model_optim_rng.pt"))) if out.is_dir() else 0
    if result.status or shards != TP * PP:  # upstream's exit status says nothing
        raise SystemExit(
            f"{name}: status {result.status}, {shards} shards\n{result.stdout[-1500:]}{result.stderr[-3000:]}"
        )
    return result


def _same_tensors(first: Path, second: Path) -> bool:
    digests = []
    for directory in (first, second):
        argv = [sys.executable, str(ROOT / "workers" / "convert_checkpoint.py"), "inspect", str(directory), "--json"]
        digests.append(json.loads(measure(argv).stdout.splitlines()[-1])["tensors_digest"])
    return digests[0] == digests[1]


def best(rounds: int, run: Callable[[Path], Measured], out: Path) -> Measured:
    """Return the fastest of several runs. Each writes anew; the last result stays.

    The first writer on a virtual machine pays for memory that the machine has not had before, whoever it is.
    """
    results = []
    for _ in range(rounds):
        shutil.rmtree(out, ignore_errors=True)
        results.append(run(out))
    return min(results, key=lambda result: result.wall)


def main() -> None:
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("--upstream", type=Path, metavar="DIR", help="clones of the three repositories")
    top.add_argument("--upstream-python", default=default_python(), metavar="PYTHON", help="has upstream's packages")
    top.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="worker counts of the native engine")
    top.add_argument("--rounds", type=int, default=2, help="runs of each, of which the fastest counts")
    options = top.parse_args()
    with tempfile.TemporaryDirectory(prefix="convert-benchmark-") as name:
        scratch = Path(name)
        model = scratch / "model"
        model.mkdir()
        print(f"{machine()}, torch {torch.__version__}")
        print(f"model: {make_model(model) / 2**30:.2f} GiB of weights, TP{TP} PP{PP}, best of {options.rounds}")
        ours = {
            workers: best(options.rounds, partial(native, model, workers), scratch / "native")
            for workers in options.workers
        }
        for workers, result in ours.items():
            print(f"native, {workers} worker(s): {result.line()}")
        if options.upstream:
            source = check_out(options.upstream, scratch / "source", options.upstream_python)
            theirs = best(options.rounds, partial(upstream, source, model), scratch / "upstream")
            print(f"upstream:            {theirs.line()}")
            for workers, result in ours.items():
                speed, memory = theirs.wall / result.wall, theirs.peak / result.peak
                print(f"  {workers} worker(s): {speed:.1f} x the speed, 1/{memory:.1f} of the memory")
            same = _same_tensors(scratch / "native", scratch / "upstream")
            print(f"  tensors {'equal' if same else 'DIFFER'}")


if __name__ == "__main__":
    main()
