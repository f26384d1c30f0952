#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module pretrained_model_info."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pretrained_model_info
short_description: Load the weights once through transformers
version_added: "0.1.0"
description:
  - Loads the weights in C(<work_root>/weights/current) in the training container, together with their configuration and tokenizer,
    and computes the logits of a few tokens. On an NPU where there is one with room for it, else on the CPU; a model that does not
    fit there, either, is compared by structure alone.
  - The answer is kept beside the weights. A second run with the same weights and the same image does not load them again.
extends_documentation_fragment: [fleet.work_root, fleet.container, fleet.npus, fleet.reads]
options:
  device:
    description: Where to load. V(auto) takes what has room; V(meta) only compares structure.
    type: str
    choices: [auto, cpu, npu, meta]
    default: auto
  trust_remote_code:
    description: Run Python code that the model directory brings.
    type: bool
    default: false
  allow_pickle:
    description: Load pickled weights, which can run code.
    type: bool
    default: false
author:
  - ascend-fleet contributors (@ascend-fleet)
"""

EXAMPLES = r"""
- name: Load the weights once
  pretrained_model_info:
    work_root: /data/ascend-fleet
    container: LLM-2025-rc1
    env_scripts: [/usr/local/Ascend/ascend-toolkit/set_env.sh]
  register: model
"""

RETURN = r"""
loaded:
  description: Whether the model was loaded in this run.
  returned: success
  type: bool
  sample: false
fingerprint:
  description: Fingerprint of the weights; none where check mode found no weights yet.
  returned: success
  type: str
  sample: 3b1f0c9a5d2e7f64
architecture:
  description: Class of the model.
  returned: success
  type: str
  sample: Qwen2ForCausalLM
model_type:
  description: Model type of its configuration.
  returned: success
  type: str
  sample: qwen2
parameters:
  description: Number of parameters; tied ones count once.
  returned: success
  type: int
  sample: 7615616512
dtype:
  description: Data type of the weights.
  returned: success
  type: str
  sample: bfloat16
device:
  description: Where it was loaded. One of V(cpu), V(npu) and V(meta).
  returned: success
  type: str
  sample: npu
structure:
  description: The model's modules as transformers prints them, line by line.
  returned: success
  type: list
  elements: str
  sample: ["Qwen2ForCausalLM(", "  (model): Qwen2Model("]
remarks:
  description: What the worker found worth saying, such as that an NPU was not used.
  returned: success
  type: list
  elements: str
  sample: []
finite:
  description: Whether the logits were finite; none where only structure was compared.
  returned: success
  type: bool
  sample: true
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.options import CONTAINER, NPUS, WORK_ROOT
from ansible.module_utils.ascend_fleet.weights_model import show_model


def main() -> None:
    """Show the model."""
    run_module(
        {
            **WORK_ROOT,
            **CONTAINER,
            **NPUS,
            "device": {"type": "str", "choices": ["auto", "cpu", "npu", "meta"], "default": "auto"},
            "trust_remote_code": {"type": "bool", "default": False},
            "allow_pickle": {"type": "bool", "default": False},
        },
        show_model,
    )


if __name__ == "__main__":
    main()
