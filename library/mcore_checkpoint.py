#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module mcore_checkpoint."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mcore_checkpoint
short_description: Convert Hugging Face weights to a Megatron-core checkpoint
description:
  - Turns the weights in use on this host into a Megatron-core checkpoint for the given parallel sizes, in a new directory named by
    what went into it, and puts it in use only when every shard is there.
  - The native engine is C(workers/convert_checkpoint.py); the upstream engine is C(convert_ckpt.py) of the pinned source tree, run
    under a watchdog. Both run inside the training container. What upstream's engine leaves is compared with the weights tensor by
    tensor, whatever its exit status.
  - Of a damaged result only the damaged shards are made again.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.work_root, fleet.container, fleet.engine, fleet.verify, fleet.converges]
options:
  tp:
    description: Tensor-parallel size.
    type: int
    required: true
  pp:
    description: Pipeline-parallel size.
    type: int
    required: true
  layers_per_stage:
    description: Number of layers on each pipeline stage; empty divides them evenly.
    type: list
    elements: int
    default: []
  dtype:
    description: Data type of the parameters that are written.
    type: str
    choices: [bf16, fp16, fp32]
    default: bf16
  vocab_divisible_by:
    description: The vocabulary is padded to a multiple of this times O(tp), by repeating its last row.
    type: int
    default: 1
  converter_dialect:
    description: Command line of the release's converter; needed by the upstream engine alone, which knows C(convert_ckpt).
    type: str
    default: convert_ckpt
  model_type_hf:
    description: What upstream's converter calls this model; needed by the upstream engine alone.
    type: str
    default: ""
  workers:
    description: Ranks that the native engine writes at the same time.
    type: int
    default: 2
attributes:
  idempotent:
    support: full
    description: Converts only when an input changed or the result is damaged.
"""

EXAMPLES = r"""
- name: Convert for tensor parallel 2 and pipeline parallel 2
  mcore_checkpoint:
    work_root: /data/ascend-fleet
    container: LLM-2025-rc1
    env_scripts: [/usr/local/Ascend/ascend-toolkit/set_env.sh]
    tp: 2
    pp: 2
"""

RETURN = r"""
fingerprint:
  description: Name that the inputs give to the checkpoint; null when it is only predicted.
  returned: success
  type: str
directory:
  description: Directory of the checkpoint.
  returned: success
  type: str
found:
  description: What was found before, one of V(ok), V(absent), V(unsealed), V(damaged), V(not-current).
  returned: success
  type: str
engine:
  description: The engine that the result comes from, V(native) or V(upstream); not returned when it is only predicted.
  returned: when the stages before are there
  type: str
inputs:
  description: What decides about the checkpoint; stand-ins for what is still to come when it is only predicted.
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

from ansible.module_utils.ascend_fleet.conversion import convert
from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.options import CONTAINER, ENGINE, VERIFY, WORK_ROOT


def main() -> None:
    """Run the module."""
    run_module(
        {
            **WORK_ROOT,
            **CONTAINER,
            **ENGINE,
            **VERIFY,
            "tp": {"type": "int", "required": True},
            "pp": {"type": "int", "required": True},
            "layers_per_stage": {"type": "list", "elements": "int", "default": []},
            "dtype": {"type": "str", "choices": ["bf16", "fp16", "fp32"], "default": "bf16"},
            "vocab_divisible_by": {"type": "int", "default": 1},
            "converter_dialect": {"type": "str", "default": "convert_ckpt"},
            "model_type_hf": {"type": "str", "default": ""},
            "workers": {"type": "int", "default": 2},
        },
        convert,
    )


if __name__ == "__main__":
    main()
