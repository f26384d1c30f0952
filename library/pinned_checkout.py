#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module pinned_checkout."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pinned_checkout
short_description: Bring source trees to full commits without losing anything of the user's
description:
  - Makes each tree from a local mirror, or fetches its commit from there, and resets it hard, with the git of a container. All trees
    are looked at with one start of git.
  - Changes of tracked files are saved as a patch first, commits that only the tree has are given a name, untracked files in the way of
    the checkout and directories that are no repository are moved aside. Everything else that is untracked stays where it is.
  - What is saved lies in C(.saved) below O(root).
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.docker]
options:
  root:
    description: Directory of the trees; the same path on the server and in the container.
    type: path
    required: true
  mirror:
    description: Directory of the bare mirrors, each called after its tree with C(.git) at its end.
    type: path
    required: true
  commits:
    description: Full commit, 40 hexadecimal digits, of each tree by its name below O(root).
    type: dict
    required: true
  branches:
    description: Branch that has the commit, by name of the tree; only serves error messages.
    type: dict
    default: {}
  keep:
    description: Names directly below a tree that are never touched, not even moved. A commit that has files there is refused.
    type: list
    elements: str
    default: [model_from_hf, model_weights, dataset, ckpt, logs]
  container:
    description: Name of the running container that has git.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Predicts from the same comparison and changes nothing. While the container does not run, the prediction is from the
      trees' own records.
  diff_mode:
    support: full
    description: Shows commits and changed files before and after.
  idempotent:
    support: full
    description: Does nothing when every tree is at its commit without changes.
"""

EXAMPLES = r"""
- name: Bring MindSpeed to its commit
  pinned_checkout:
    root: /data/ascend-fleet/source
    mirror: /data/ascend-fleet/mirror/current
    container: LLM-2025-rc1
    commits:
      MindSpeed: c721ce33e5995c2f2f8f91a433d726f2571053b7
    branches:
      MindSpeed: 2.0.0_core_r0.8.0
"""

RETURN = r"""
trees:
  description: The trees by name.
  returned: success
  type: dict
  contains:
    path:
      description: Directory of the tree.
      type: str
    commit:
      description: The wanted commit.
      type: str
    found:
      description: What was there before, as C(state) (V(ok), V(absent), V(no-repository), V(other-commit), V(dirty), V(unknown)),
        C(commit) and C(changed_files).
      type: dict
saved:
  description: Patches and references that keep what was changed.
  returned: success
  type: list
  elements: str
moved_aside:
  description: Where untracked files and directories were moved to.
  returned: success
  type: list
  elements: str
actions:
  description: What was done, or would be, one line a step.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.checkout import ensure_checkouts
from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.options import DOCKER

KEEP = ["model_from_hf", "model_weights", "dataset", "ckpt", "logs"]


def main() -> None:
    """Run the module."""
    run_module(
        {
            **DOCKER,
            "root": {"type": "path", "required": True},
            "mirror": {"type": "path", "required": True},
            "commits": {"type": "dict", "required": True},
            "branches": {"type": "dict", "default": {}},
            "keep": {"type": "list", "elements": "str", "default": KEEP},
            "container": {"type": "str", "required": True},
        },
        ensure_checkouts,
    )


if __name__ == "__main__":
    main()
