# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in's command line: upstream's example passes, and what upstream refuses or the stand-in lacks does not."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from tests.conftest import ROOT
from tests.unit.upstream.conftest import USUAL, WITHOUT_STATE, load_source

# Every flag of the pinned release's 7B example, with values of its kind.
EXAMPLE_7B = (
    "--use-mcore-models --tensor-model-parallel-size 4 --pipeline-model-parallel-size 2 --sequence-parallel "
    "--num-layers 28 --hidden-size 3584 --ffn-hidden-size 18944 --num-attention-heads 28 "
    "--max-position-embeddings 32768 --seq-length 32768 --disable-bias-linear --add-qkv-bias --group-query-attention "
    "--num-query-groups 4 --use-flash-attn --swiglu --use-fused-swiglu --normalization RMSNorm --norm-epsilon 1e-6 "
    "--use-fused-rmsnorm --position-embedding-type rope --rotary-base 1000000 --use-fused-rotary-pos-emb "
    "--untie-embeddings-and-output-weights --micro-batch-size 1 --global-batch-size 64 "
    "--make-vocab-size-divisible-by 1 --padded-vocab-size 152064 --tokenizer-type PretrainedFromHF "
    "--tokenizer-name-or-path T --attention-dropout 0.0 --hidden-dropout 0.0 --train-iters 2000 --lr 1.25e-6 "
    "--lr-decay-style cosine --min-lr 1.25e-7 --lr-warmup-fraction 0.01 --init-method-std 0.01 --weight-decay 1e-1 "
    "--clip-grad 1.0 --adam-beta1 0.9 --adam-beta2 0.95 --initial-loss-scale 4096 --no-gradient-accumulation-fusion "
    "--no-masked-softmax-fusion --attention-softmax-in-fp32 --bf16 --data-path D --split 100,0,0 --load L "
    "--no-load-optim --no-load-rng --no-save-optim --no-save-rng --seed 1234 --save S --log-interval 1 "
    "--save-interval 2000 --eval-interval 2000 --eval-iters 0 --log-throughput --distributed-backend nccl"
)
Parse = Callable[..., Namespace]


@pytest.fixture(scope="module")
def arguments() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "lab" / "upstream" / "Megatron-LM"))
        yield load_source("upstream/MindSpeed-LLM/mindspeed_llm/training/arguments.py")


@pytest.fixture
def parse(arguments: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Parse:
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "1")

    def run(words: list[str], world: int = 4) -> Namespace:
        monkeypatch.setenv("WORLD_SIZE", str(world))
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setattr(sys, "argv", ["pretrain_gpt.py", *words])
        parsed: Namespace = arguments.parse_args()
        return parsed

    return run


def usual(*extra: str) -> list[str]:
    return [*USUAL, *WITHOUT_STATE, "--data-path", "D", "--tokenizer-name-or-path", "T", *extra]


def test_every_flag_of_the_7b_example_is_known(parse: Parse, capsys: pytest.CaptureFixture[str]) -> None:
    args = parse(EXAMPLE_7B.split(), world=8)
    assert (args.tensor_model_parallel_size, args.pipeline_model_parallel_size, args.data_parallel_size) == (4, 2, 1)
    assert args.layers_of_stage == [14, 14]
    assert args.num_micro_batches == 64
    printed = capsys.readouterr().out
    assert printed.startswith(
        "using world size: 8, data-parallel size: 1, context-parallel size: 1 "
        "tensor-model-parallel size: 4, pipeline-model-parallel size: 2 \n"
    )
    assert re.search(r"^  rotary_base \.+ 1000000$", printed, re.MULTILINE)


def test_unknown_argument_ends_with_status_2(parse: Parse, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(usual("--use-mcore-model"))  # abbreviations do not count either
    assert ended.value.code == 2
    assert "unrecognized arguments: --use-mcore-model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "world", "message"),
    [
        ("--tensor-model-parallel-size 2", 3, "world size (3) is not divisible by tensor model parallel size (2)"),
        (
            "--tensor-model-parallel-size 2 --pipeline-model-parallel-size 2",
            6,
            "world size (6) is not divisible by tensor parallel size (2) times pipeline parallel size (2)",
        ),
        (
            "--tensor-model-parallel-size 3",
            3,
            "num_attention_heads (8) must be a multiple of tensor_model_parallel_size (3).",
        ),
        (
            "--tensor-model-parallel-size 8",
            8,
            "num_query_groups (4) must be a multiple of tensor_model_parallel_size (8).",
        ),
        ("--pipeline-model-parallel-size 3", 3, "number of layers should be divisible by the pipeline parallel size"),
        ("--pipeline-model-parallel-size 2 --num-layer-list 3,2", 2, "does not add up to --num-layers 4"),
        (
            "--global-batch-size 6 --micro-batch-size 4",
            1,
            "global batch size (6) is not divisible by micro batch size (4)",
        ),
        ("--context-parallel-size 2", 4, "context_parallel_size is 2, must be 1"),
        ("--eval-iters 10", 1, "eval_iters is 10, must be 0"),
        ("--hidden-dropout 0.1", 1, "hidden_dropout is 0.1, must be 0.0"),
        ("--lr-warmup-iters 3", 1, "can only specify one of lr-warmup-fraction and lr-warmup-iters"),
    ],
)
def test_refusals(parse: Parse, extra: str, world: int, message: str) -> None:
    with pytest.raises((AssertionError, ValueError), match=re.escape(message)):
        parse(usual(*extra.split()), world)


def test_sequence_parallel_needs_one_connection(parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS")
    with pytest.raises(RuntimeError, match="CUDA_DEVICE_MAX_CONNECTIONS to 1"):
        parse(usual("--tensor-model-parallel-size", "2"))
    assert parse(usual()).sequence_parallel is False  # without tensor parallelism there is nothing to order


def test_uneven_stages(parse: Parse) -> None:
    args = parse(usual("--pipeline-model-parallel-size", "2", "--num-layer-list", "1,3"), 2)
    assert args.layers_of_stage == [1, 3]


def test_readme_lists_what_is_ignored(arguments: ModuleType) -> None:
    text = (ROOT / "lab" / "upstream" / "README.md").read_text(encoding="utf-8")
    section = text.split("## Accepted without effect", 1)[1].split("\n## ", 1)[0]
    listed = set(re.findall(r"`--([a-z0-9-]+)`", section))
    assert listed == {*arguments.IGNORED_SWITCHES, *arguments.IGNORED_VALUES}
