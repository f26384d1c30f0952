#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module megatron_dataset."""

from __future__ import annotations

DOCUMENTATION = r"""
module: megatron_dataset
short_description: Preprocess a corpus to Megatron's .bin and .idx files
description:
  - Turns the corpus in use on this host into token files, one pair for each JSON key, with the tokenizer of the model in use, in a new
    directory named by what went into it.
  - The native engine is C(workers/build_dataset.py); the upstream engine is C(preprocess_data.py) of the pinned source tree. Both run
    inside the training container. What upstream's engine leaves is read back and compared with the corpus document by document.
  - Makes datasets for pretraining only.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.work_root, fleet.container, fleet.engine, fleet.verify, fleet.converges]
options:
  name:
    description: First part of the file names, C(<name>_<key>_document.bin).
    type: str
    required: true
  json_keys:
    description: Keys of a document whose text is tokenized, each into a pair of its own.
    type: list
    elements: str
    required: true
  append_eod:
    description: Append the end-of-document token to each document.
    type: bool
    default: false
  template:
    description:
      - Makes one text of several keys, C({instruction}) standing for the text under that key.
      - O(json_keys) then has one entry, which is only the name of the files.
    type: str
    default: ""
  validation:
    description:
      - Share of the records that go into files of their own, C(<name>_valid_<key>_document). Which ones is decided by their content, so
        that a repeated document is never in both parts.
    type: float
    default: 0.0
  skip_bad:
    description: Number of records without the keys, not text or not JSON that are set aside, into C(<name>_rejects.jsonl).
    type: int
    default: 0
  task:
    description: What the dataset is for. Anything but V(pretraining) is refused with the reason.
    type: str
    default: pretraining
  workers:
    description: Number of processes that tokenize.
    type: int
    default: 4
attributes:
  idempotent:
    support: full
    description: Preprocesses only when an input changed or the result is damaged.
"""

EXAMPLES = r"""
- name: Preprocess both columns of an instruction corpus
  megatron_dataset:
    work_root: /data/ascend-fleet
    container: LLM-2025-rc1
    name: EvolInstruct-900
    json_keys: [instruction, output]

- name: Train on question and answer together, and keep one document in a hundred for validation
  megatron_dataset:
    work_root: /data/ascend-fleet
    container: LLM-2025-rc1
    name: EvolInstruct-900
    json_keys: [text]
    template: "{instruction}\n{output}"
    validation: 0.01
    append_eod: true
"""

RETURN = r"""
fingerprint:
  description: Name that the inputs give to the dataset; null when it is only predicted.
  returned: success
  type: str
directory:
  description: Directory of the dataset.
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
  description: What decides about the dataset; stand-ins for what is still to come when it is only predicted.
  returned: success
  type: dict
parents:
  description: Stage and fingerprint of what it is made from.
  returned: success
  type: dict
artifact:
  description: Summary of the receipt (inputs, made_with with documents and tokens per key, parents, number of files, bytes).
  returned: success
  type: dict
actions:
  description: What was done, or would be, one line a step.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.corpus import preprocess
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
            "name": {"type": "str", "required": True},
            "json_keys": {"type": "list", "elements": "str", "required": True, "no_log": False},
            "append_eod": {"type": "bool", "default": False},
            "template": {"type": "str", "default": ""},
            "validation": {"type": "float", "default": 0.0},
            "skip_bad": {"type": "int", "default": 0},
            "task": {"type": "str", "default": "pretraining"},
            "workers": {"type": "int", "default": 4},
        },
        preprocess,
    )


if __name__ == "__main__":
    main()
