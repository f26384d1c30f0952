# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the lab's model and dataset: python -m lab.model.build --out DIR.

The model is a small Qwen2 that is trained here, seeded, until its loss is far below ln(vocabulary), so that a run
which silently starts from random weights shows at its first iteration. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lab.model import corpus, tokenizer

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import Qwen2ForCausalLM

VOCABULARY = 1024
REQUIRED_MARGIN = 1.5  # nats below ln(vocabulary), on text the model was not trained on
SEED = 20240229
DATASET_ROWS = 900
LONGEST_SOURCE = 2000  # characters; keeps the dataset small enough to be seen more than once in a short run
TOKENIZER_MODULES = 150  # about 2 MB of text
SEQUENCE = 256
BATCH = 8
STEPS = 160
MEASURED = 64  # sequences
PEAK_RATE = 4e-3
_CHINESE_EVERY = 7
_REMARK_EVERY = 10

Progress = Callable[[str], None]


def to_stderr(message: str) -> None:
    """Print one progress line."""
    print(message, file=sys.stderr, flush=True)


def build_dataset(target_file: Path) -> int:
    """Write the JSONL dataset of `{"instruction", "output"}` rows and return their number."""
    rows: list[dict[str, str]] = []
    for function in corpus.functions(for_dataset=True):
        if len(function.source) <= LONGEST_SOURCE:
            rows.append(_row(len(rows), function))
        if len(rows) == DATASET_ROWS:
            break
    if len(rows) < DATASET_ROWS:
        raise ValueError(f"the standard library gave {len(rows)} documented functions, {DATASET_ROWS} are needed")
    target_file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    _write_whole(target_file, "\n".join(lines) + "\n")
    return len(rows)


def _row(number: int, function: corpus.Function) -> dict[str, str]:
    ask = (
        f"请用 Python 写出函数 {function.name}："
        if number % _CHINESE_EVERY == 0
        else f"Write {function.name} in Python: "
    )
    remark = f"\n# 以上是函数 {function.name}。" if number % _REMARK_EVERY == 0 else ""
    return {"instruction": ask + function.docstring, "output": function.source + remark}


def _write_whole(target: Path, content: str) -> None:
    partial = target.with_name(f"{target.name}.part")
    partial.write_text(content, encoding="utf-8")
    partial.replace(target)


def build_model(target_dir: Path, progress: Progress = to_stderr) -> float:
    """Train and save the model; return its mean loss in nats a token on functions it was not trained on.

    The directory appears whole or not at all. Raises ValueError when the loss is not REQUIRED_MARGIN below
    ln(VOCABULARY).
    """
    import torch  # here and below, not at the top: it takes seconds, and the dataset alone needs none of it

    torch.manual_seed(SEED)
    progress("model: training the tokenizer")
    words = tokenizer.train(islice(corpus.text(for_dataset=False), TOKENIZER_MODULES), VOCABULARY)
    model = _new_model(words.token_to_id(tokenizer.END_OF_TEXT))
    _pretrain(model, _token_stream(words, for_dataset=False), progress)
    model = model.to(torch.bfloat16)
    loss = mean_loss(model, _token_stream(words, for_dataset=True))
    limit = math.log(VOCABULARY) - REQUIRED_MARGIN
    if loss > limit:
        raise ValueError(f"the model's loss is {loss:.3f}, it must be at most {limit:.3f}: raise STEPS ({STEPS})")
    _save(model, words, target_dir)
    progress(f"model: loss {loss:.3f}, {math.log(VOCABULARY) - loss:.2f} below ln({VOCABULARY}); saved in {target_dir}")
    return loss


def _new_model(end_of_text: int) -> Qwen2ForCausalLM:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=4,
            max_position_embeddings=512,
            rope_theta=1e6,
            rms_norm_eps=1e-6,
            use_sliding_window=False,
            tie_word_embeddings=False,
            torch_dtype="bfloat16",
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
        )
    )


def _token_stream(words: Tokenizer, for_dataset: bool) -> torch.Tensor:
    """Return the ids of one share's functions in a row, int64, cut to whole sequences: shape (n, SEQUENCE + 1)."""
    import torch

    texts = [function.source for function in corpus.functions(for_dataset)]
    ids = [token for item in words.encode_batch(texts) for token in item.ids]
    whole = len(ids) // (SEQUENCE + 1) * (SEQUENCE + 1)
    return torch.tensor(ids[:whole]).view(-1, SEQUENCE + 1)


def _pretrain(model: Qwen2ForCausalLM, data: torch.Tensor, progress: Progress) -> None:
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.01)
    started = time.monotonic()
    for step, batch in zip(range(1, STEPS + 1), _batches(data), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step)
        loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            left = (time.monotonic() - started) / step * (STEPS - step)
            progress(f"model: step {step}/{STEPS}, loss {loss.item():.3f}, {left:.0f} s left")


def _batches(data: torch.Tensor) -> Iterator[torch.Tensor]:
    import torch

    generator = torch.Generator().manual_seed(SEED)
    while True:
        order = torch.randperm(len(data), generator=generator)
        for start in range(0, len(order) - BATCH + 1, BATCH):
            yield data[order[start : start + BATCH]]


def _rate(step: int) -> float:
    warmup = 20
    if step < warmup:
        return PEAK_RATE * step / warmup
    return PEAK_RATE * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup))))


def _loss(model: Qwen2ForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    import torch

    logits = model(input_ids=batch[:, :-1]).logits.float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def mean_loss(model: Qwen2ForCausalLM, data: torch.Tensor) -> float:
    """Return the mean loss in nats a token over the first MEASURED rows of shape (n, SEQUENCE + 1)."""
    import torch

    with torch.no_grad():
        losses = [_loss(model, rows) for rows in data[:MEASURED].split(BATCH)]
    return float(torch.stack(losses).mean())


def _save(model: Qwen2ForCausalLM, words: Tokenizer, target_dir: Path) -> None:
    partial = target_dir.with_name(f"{target_dir.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.save_pretrained(partial, max_shard_size="600KB", safe_serialization=True)
    tokenizer.save(words, partial, longest=512)
    for file in partial.iterdir():
        file.chmod(0o644)  # safetensors writes 0600, but staging serves these files to another user
    shutil.rmtree(target_dir, ignore_errors=True)
    partial.rename(target_dir)


def main(arguments: list[str] | None = None) -> int:
    """Build what is missing below --out: models/qwen2-lab and datasets/lab-900.jsonl."""
    parser = argparse.ArgumentParser(prog="python -m lab.model.build", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory to build in")
    parser.add_argument("--force", action="store_true", help="build again what is there already")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    dataset, model = options.out / "datasets" / "lab-900.jsonl", options.out / "models" / "qwen2-lab"
    if options.force or not dataset.exists():
        to_stderr(f"dataset: {build_dataset(dataset)} rows in {dataset}")
    if options.force or not (model / "config.json").exists():
        build_model(model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
