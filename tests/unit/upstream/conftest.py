# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny model, its checkpoints and a dataset, and a way to run the stand-in trainer on them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lab.model import corpus, tokenizer
from lab.upstream import build as upstream_build
from tests.conftest import ROOT, free_ports

SOURCES = ROOT / "lab" / "upstream"
VOCABULARY = 512
SEQUENCE = 64
BATCH = 8
LINE = re.compile(r" iteration +(\d+)/ +\d+ .*?consumed samples: +(\d+) .*?(?:lm loss: (\S+) .*)?grad norm: (\S+) ")


@dataclass(frozen=True)
class Run:
    """How a run of the trainer ended and what it printed."""

    status: int
    output: str

    @property
    def losses(self) -> dict[int, float]:
        """The logged loss of each iteration."""
        return {int(match[1]): float(match[3]) for match in LINE.finditer(self.output) if match[3]}

    @property
    def grad_norms(self) -> dict[int, float]:
        """The logged norm of all gradients of each iteration."""
        return {int(match[1]): float(match[4]) for match in LINE.finditer(self.output)}


@dataclass(frozen=True)
class Bench:
    """A directory with model, dataset, source tree and fake NPU nodes."""

    root: Path

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def data(self) -> Path:
        return self.root / "data" / "tiny_output_document"

    @property
    def tree(self) -> Path:
        return self.root / "source" / "MindSpeed-LLM"

    def checkpoint(self, tp: int, pp: int, tracker: str = "release") -> Path:
        """Return the model as a Megatron-core checkpoint, made when first asked for."""
        target = self.root / f"checkpoint-{tp}-{pp}-{tracker}"
        if not target.exists():
            arguments = ["hf2mcore", "--hf", self.model, "--out", target, "--tp", tp, "--pp", pp, "--tracker", tracker]
            worker("convert_checkpoint", *arguments)
        return target

    def train(self, tp: int, pp: int, ranks: int, *extra: object, load: Path | None = None) -> Run:
        """Run the trainer; `extra` arguments come last and so win over the usual ones."""
        sizes = ["--tensor-model-parallel-size", tp, "--pipeline-model-parallel-size", pp]
        source = ["--load", load or self.checkpoint(tp, pp), "--data-path", self.data]
        return self.launch(ranks, *USUAL, *sizes, *source, "--tokenizer-name-or-path", self.model, *extra)

    def launch(self, ranks: int, *arguments: object) -> Run:
        """Run the trainer with exactly these arguments, several ranks by torchrun. One alone needs nobody to start it."""
        start, own = [sys.executable], {}
        if ranks == 1:
            (port,) = free_ports(1)
            own = {
                "RANK": "0",
                "LOCAL_RANK": "0",
                "WORLD_SIZE": "1",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": f"{port}",
            }
        else:
            start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
        done = subprocess.run(
            [*start, "pretrain_gpt.py", *(str(item) for item in arguments)],
            cwd=self.tree,
            env={**self.environment(), **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=240,
        )
        return Run(done.returncode, done.stdout)

    def environment(self) -> dict[str, str]:
        """What the environment script and the container set for a trainer."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(ROOT / "lab" / "torch_npu_cpu"), str(SOURCES / "MindSpeed")]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ASCEND_LAB_DEV_ROOT": str(self.root / "dev"),
            "ASCEND_HOME_PATH": str(self.root),
            "CUDA_DEVICE_MAX_CONNECTIONS": "1",
            "HCCL_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
        }


USUAL = (
    f"--use-mcore-models --sequence-parallel --num-layers 4 --hidden-size 64 --ffn-hidden-size 96 "
    f"--num-attention-heads 8 --max-position-embeddings 128 --seq-length {SEQUENCE} --disable-bias-linear "
    f"--add-qkv-bias --group-query-attention --num-query-groups 4 --use-flash-attn --swiglu --use-fused-swiglu "
    f"--normalization RMSNorm --norm-epsilon 1e-6 --use-fused-rmsnorm --position-embedding-type rope "
    f"--rotary-base 1000000 --use-fused-rotary-pos-emb --untie-embeddings-and-output-weights --micro-batch-size 2 "
    f"--global-batch-size {BATCH} --make-vocab-size-divisible-by 1 --padded-vocab-size {VOCABULARY} "
    f"--tokenizer-type PretrainedFromHF --attention-dropout 0.0 --hidden-dropout 0.0 --train-iters 6 --lr 2e-3 "
    f"--lr-decay-style cosine --min-lr 1e-5 --lr-warmup-fraction 0.01 --init-method-std 0.01 --weight-decay 1e-1 "
    f"--clip-grad 1.0 --adam-beta1 0.9 --adam-beta2 0.95 --initial-loss-scale 4096 --no-gradient-accumulation-fusion "
    f"--no-masked-softmax-fusion --attention-softmax-in-fp32 --bf16 --split 100,0,0 --seed 1234 --log-interval 1 "
    f"--save-interval 3 --eval-interval 2000 --eval-iters 0 --log-throughput --distributed-backend nccl"
).split()
WITHOUT_STATE = ("--no-load-optim", "--no-load-rng", "--no-save-optim", "--no-save-rng")


def worker(name: str, *arguments: object) -> None:
    """Run one of the programs in workers/ and fail with what it says."""
    command = [sys.executable, str(ROOT / "workers" / f"{name}.py"), *(str(item) for item in arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def load_source(path: str) -> ModuleType:
    """Import one file of the stand-in trees by its path."""
    spec = importlib.util.spec_from_file_location(f"standin_{Path(path).stem}", ROOT / "lab" / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def model_imports() -> None:
    """Import what a first model imports while sys.intern is Python's own: Ansible puts an object in its place, which
    torch._dynamo refuses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "intern", getattr(sys.intern, "unpatched_implementation", sys.intern))
        importlib.import_module("torch._dynamo")


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, model_imports: None) -> Bench:
    """The bench with everything in place: the source tree as checked out at the pinned commits, megatron/ laid in."""
    bench = Bench(tmp_path_factory.mktemp("bench"))
    rows = [json.dumps({"output": item.source}) for item in islice(corpus.functions(for_dataset=True), 150)]
    (bench.root / "rows.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    _save_model(bench.model)
    arguments = ["--input", bench.root / "rows.jsonl", "--tokenizer", bench.model, "--json-keys", "output"]
    (bench.root / "data").mkdir()
    worker("build_dataset", *arguments, "--output-prefix", bench.root / "data" / "tiny")
    _check_out(bench)
    (bench.root / "dev").mkdir()
    for number in (2, 3, 10, 11):  # physical ids need not begin at 0
        (bench.root / "dev" / f"davinci{number}").touch()
    return bench


def _save_model(target: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(7)
    words = tokenizer.train((item.source for item in corpus.functions(for_dataset=True)), VOCABULARY)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=128,
        rope_theta=1e6,
        tie_word_embeddings=False,
        initializer_range=0.1,  # wide enough that weights, positions and biases all show in the loss
        torch_dtype="bfloat16",
    )
    model = Qwen2ForCausalLM(config)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, 0.0, 0.1)
    model.to(torch.bfloat16).save_pretrained(target, max_shard_size="100KB")
    tokenizer.save(words, target, longest=128)


def _check_out(bench: Bench) -> None:
    pins = upstream_build.build_repositories(bench.root / "git")
    for name, commit in pins.items():
        tree = bench.root / "source" / name
        subprocess.run(["git", "clone", "--quiet", str(bench.root / "git" / f"{name}.git"), str(tree)], check=True)
        subprocess.run(["git", "-C", str(tree), "checkout", "--quiet", commit], check=True)
    (bench.root / "source" / "Megatron-LM" / "megatron").rename(bench.tree / "megatron")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Model and rows for which upstream's own results are known."""
    return ROOT / "tests" / "data" / "golden"
