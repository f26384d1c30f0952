#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module hf_export."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_export
short_description: Turn a trained Megatron-core checkpoint back into a Hugging Face model
description:
  - Takes the shards of one iteration of a training run and the weights in use on this host, which it was trained from, and makes a
    Hugging Face model in a new directory named by what went into it.
  - Before it is put in use the model is loaded through transformers, and every shard is derived from it again and compared bit by bit,
    unless the shards hold values that no Hugging Face model has (padding of the vocabulary, the copy of a tied embedding).
  - Runs C(workers/convert_checkpoint.py) inside the training container; no NPU is needed.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.work_root, fleet.container, fleet.npus, fleet.verify, fleet.converges]
options:
  run:
    description: Fingerprint of the training run.
    type: str
    required: true
  iteration:
    description: Iteration of the run that the shards are of.
    type: int
    required: true
  shards:
    description: For each shard, by the name that Megatron gives it, the directory on this host that holds its file; below the work root.
    type: dict
    required: true
  tp:
    description: Tensor-parallel size of the run.
    type: int
    required: true
  pp:
    description: Pipeline-parallel size of the run.
    type: int
    required: true
  layers_per_stage:
    description: Number of layers on each pipeline stage; empty divides them evenly.
    type: list
    elements: int
    default: []
  dtype:
    description: Data type of the parameters in the shards.
    type: str
    choices: [bf16, fp16, fp32]
    default: bf16
  vocab_divisible_by:
    description: The vocabulary was padded to a multiple of this times O(tp).
    type: int
    default: 1
  device:
    description:
      - Where the model is loaded once. V(auto) takes an NPU with room for it, else the CPU, else V(meta), which only compares structure.
    type: str
    choices: [auto, cpu, npu, meta]
    default: auto
attributes:
  idempotent:
    support: full
    description: Exports only when an input changed or the result is damaged.
"""

EXAMPLES = r"""
- name: Export iteration 2000
  hf_export:
    work_root: /data/ascend-fleet
    container: LLM-2025-rc1
    env_scripts: [/usr/local/Ascend/ascend-toolkit/set_env.sh]
    run: e921d07211d1f010
    iteration: 2000
    shards:
      mp_rank_00: /data/ascend-fleet/run/e921d07211d1f010/checkpoints/iter_0002000/mp_rank_00
      mp_rank_01: /data/ascend-fleet/trained/npu-2/current/mp_rank_01
    tp: 2
    pp: 1
"""

RETURN = r"""
fingerprint:
  description: Name that the inputs give to the model; null when it is only predicted.
  returned: success
  type: str
directory:
  description: Directory of the model.
  returned: success
  type: str
found:
  description: What was found before, one of V(ok), V(absent), V(unsealed), V(damaged), V(not-current).
  returned: success
  type: str
inputs:
  description: What decides about the model.
  returned: success
  type: dict
parents:
  description: Stage and fingerprint of what it is made from.
  returned: success
  type: dict
artifact:
  description: Summary of the receipt (inputs, made_with, parents, number of files, bytes).
  returned: success
  type: dict
actions:
  description: What was done, or would be, one line a step.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.export import export
from ansible.module_utils.ascend_fleet.options import CONTAINER, NPUS, VERIFY, WORK_ROOT


def main() -> None:
    """Run the module."""
    run_module(
        {
            **WORK_ROOT,
            **CONTAINER,
            **NPUS,
            **VERIFY,
            "run": {"type": "str", "required": True},
            "iteration": {"type": "int", "required": True},
            "shards": {"type": "dict", "required": True},
            "tp": {"type": "int", "required": True},
            "pp": {"type": "int", "required": True},
            "layers_per_stage": {"type": "list", "elements": "int", "default": []},
            "dtype": {"type": "str", "choices": ["bf16", "fp16", "fp32"], "default": "bf16"},
            "vocab_divisible_by": {"type": "int", "default": 1},
            "device": {"type": "str", "choices": ["auto", "cpu", "npu", "meta"], "default": "auto"},
        },
        export,
    )


if __name__ == "__main__":
    main()
