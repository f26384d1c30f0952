#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module reference_loss."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reference_loss
short_description: Compute the loss that the first iteration of a training run must log
description:
  - Runs C(workers/reference_loss.py) in the training container. It finds out which samples Megatron puts into the first global batch and
    computes the loss of the Hugging Face model on exactly these; where samples are packed, of each document by itself.
  - A run that logs another first loss did not start from these weights, or reads other data.
  - The answer is kept under V(reference/) of the work root and computed again only when something that decides about it changed.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.work_root, fleet.container, fleet.npus, fleet.verify, fleet.converges]
options:
  plan:
    description: The run plan.
    type: dict
    required: true
  samples:
    description:
      - Compute the loss of only so many samples of the first global batch, V(0) of all of them.
      - Fewer give an estimate, against which the first loss is compared only coarsely.
    type: int
    default: 0
  device:
    description:
      - Where to compute. V(auto) takes an NPU with room for the model in float32, else the CPU.
      - Where that has no room, either, RV(loss) is null and RV(remarks) say why.
    type: str
    choices: [auto, cpu, npu]
    default: auto
attributes:
  idempotent:
    support: full
    description: Computes only when an input changed.
"""

EXAMPLES = r"""
- name: Compute what the first iteration has to log
  reference_loss:
    work_root: /data/ascend-fleet
    container: LLM-2025-rc1
    env_scripts: [/usr/local/Ascend/ascend-toolkit/set_env.sh]
    plan: "{{ fleet_plan }}"
  register: reference
"""

RETURN = r"""
loss:
  description: The loss in nats per token; null when it is only predicted, or when no device has room for the model.
  returned: success
  type: float
exact:
  description: Whether the whole first global batch was computed, as the trainer does it; V(false) where nothing was.
  returned: success
  type: bool
remarks:
  description: Why it was not computed, where it was computed instead, or why it is not exact.
  returned: success
  type: list
  elements: str
fingerprint:
  description: Name that the inputs give to the answer; null when it is only predicted.
  returned: success
  type: str
directory:
  description: Where the answer is kept.
  returned: success
  type: str
found:
  description: What was found before, one of V(ok), V(absent), V(unsealed), V(damaged), V(not-current).
  returned: success
  type: str
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
from ansible.module_utils.ascend_fleet.options import CONTAINER, NPUS, VERIFY, WORK_ROOT
from ansible.module_utils.ascend_fleet.reference import reference


def main() -> None:
    """Run the module."""
    run_module(
        {
            **WORK_ROOT,
            **CONTAINER,
            **NPUS,
            **VERIFY,
            "plan": {"type": "dict", "required": True},
            "samples": {"type": "int", "default": 0},
            "device": {"type": "str", "choices": ["auto", "cpu", "npu"], "default": "auto"},
        },
        reference,
    )


if __name__ == "__main__":
    main()
