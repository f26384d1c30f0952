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
  - The work itself is C(workers/build_dataset.py), run inside the training container.
author: ascend-fleet contributors (@ascend-fleet)
options:
  work_root:
    description: The directory on the server that everything derives from; the same path inside the container.
    type: path
    required: true
  container:
    description: Name of the running training container.
    type: str
    required: true
  env_scripts:
    description: Environment scripts that are sourced in the container before the worker starts.
    type: list
    elements: str
    default: []
  docker_cli:
    description: Docker or a command-line tool compatible with it.
    type: str
    default: docker
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
  workers:
    description: Number of processes that tokenize.
    type: int
    default: 4
  verify:
    description: How an existing result is compared with its manifest, by size and time or by content.
    type: str
    choices: [stat, content]
    default: stat
attributes:
  check_mode:
    support: full
    description: Predicts from the same comparison and changes nothing.
  diff_mode:
    support: full
    description: Shows the inputs before and after.
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
inputs:
  description: What decides about the dataset.
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


def main() -> None:
    """Run the module."""
    run_module(
        {
            "work_root": {"type": "path", "required": True},
            "container": {"type": "str", "required": True},
            "env_scripts": {"type": "list", "elements": "str", "default": []},
            "docker_cli": {"type": "str", "default": "docker"},
            "name": {"type": "str", "required": True},
            "json_keys": {"type": "list", "elements": "str", "required": True, "no_log": False},
            "append_eod": {"type": "bool", "default": False},
            "workers": {"type": "int", "default": 4},
            "verify": {"type": "str", "choices": ["stat", "content"], "default": "stat"},
        },
        preprocess,
    )


if __name__ == "__main__":
    main()
