#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module source_install."""

from __future__ import annotations

DOCUMENTATION = r"""
module: source_install
short_description: Make the source trees usable in the training container
description:
  - Lays C(megatron/) of Megatron-LM into MindSpeed-LLM where its content differs, installs MindSpeed in the container in editable form
    without any network, imports every package there and compares where it comes from, and leaves a receipt with the versions in O(root).
  - A container that was created anew gets the install again and nothing else.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.container]
options:
  root:
    description: Directory of the trees MindSpeed-LLM, MindSpeed and Megatron-LM; the same path on the server and in the container.
    type: path
    required: true
  commits:
    description: Full commit of each tree by name; part of the receipt.
    type: dict
    required: true
  python:
    description: Python of the container.
    type: str
    default: python
  wheels:
    description: Directory with wheels from which the trees' requirements are installed; the same path in the container. Empty leaves the
      image's own packages as they are.
    type: path
    default: ''
  verify:
    description: With V(content) the packages are imported even when nothing has to be done.
    type: str
    choices: [stat, content]
    default: stat
attributes:
  check_mode:
    support: full
    description: Predicts from the same comparison and changes nothing.
  diff_mode:
    support: full
    description: Shows commits, container and what is to be done before and after.
  idempotent:
    support: full
    description: Does nothing when receipt, laid-in files and installed package agree.
"""

EXAMPLES = r"""
- name: Make the sources usable
  source_install:
    root: /data/ascend-fleet/source
    container: LLM-2025-rc1
    commits:
      MindSpeed-LLM: b626d239cd49b7e681a170ba8c3472f713596476
      MindSpeed: c721ce33e5995c2f2f8f91a433d726f2571053b7
      Megatron-LM: baf94af3c667248865f23df73b9fb8e2395e6fd0
    env_scripts: [/usr/local/Ascend/ascend-toolkit/set_env.sh]
"""

RETURN = r"""
versions:
  description: Versions of the imported packages and of Python; empty where they are only predicted.
  returned: success
  type: dict
saved:
  description: Where a laid-in directory with changes of the user's was moved to.
  returned: success
  type: list
  elements: str
actions:
  description: What was done, or would be, one line a step.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.options import CONTAINER
from ansible.module_utils.ascend_fleet.source_tree import install_sources


def main() -> None:
    """Run the module."""
    run_module(
        {
            **CONTAINER,
            "root": {"type": "path", "required": True},
            "commits": {"type": "dict", "required": True},
            "python": {"type": "str", "default": "python"},
            "wheels": {"type": "path", "default": ""},
            "verify": {"type": "str", "choices": ["stat", "content"], "default": "stat"},
        },
        install_sources,
    )


if __name__ == "__main__":
    main()
