#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module git_mirror."""

from __future__ import annotations

DOCUMENTATION = r"""
module: git_mirror
short_description: Keep a bare mirror of a git repository that has a pinned commit
description:
  - Fetches branches and tags into a bare repository, has git check that everything of the pinned commit is there, and keeps that commit
    by a reference of its own, so that it stays when its branch is rewritten.
  - Works in a sibling that an interruption leaves for the next run.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.mirror]
options:
  url:
    description: Where the repository comes from; a local path or a bundle will do.
    type: str
    required: true
  directory:
    description: The bare repository.
    type: path
    required: true
  branch:
    description: Branch that had the commit when it was pinned; only reported when it has moved on.
    type: str
    required: true
  commit:
    description: Full commit that has to be there.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Mirror MindSpeed
  git_mirror:
    url: https://gitee.com/ascend/MindSpeed.git
    directory: /data/staging/git/MindSpeed.git
    branch: 2.0.0_core_r0.8.0
    commit: c721ce33e5995c2f2f8f91a433d726f2571053b7
    record: /data/staging/mirror.json
"""

RETURN = r"""
place:
  description: Path of what is mirrored.
  returned: success
  type: str
found:
  description:
    - What was found before, one of V(ok), V(absent), V(unsealed) (there, but not recorded), V(other) (something else was asked for
      then) and V(damaged).
  returned: success
  type: str
made_with:
  description: Origin, commit, where the branch is now and whether it has moved; null when it is only predicted.
  returned: success
  type: dict
files:
  description: Number of files.
  returned: success
  type: int
bytes:
  description: Their sizes added up, in bytes.
  returned: success
  type: int
actions:
  description: What was done, or would be, one line a step.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.mirror_git import mirror_repository
from ansible.module_utils.ascend_fleet.options import MIRROR


def main() -> None:
    """Run the module."""
    run_module(
        {
            "url": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "branch": {"type": "str", "required": True},
            "commit": {"type": "str", "required": True},
            **MIRROR,
        },
        mirror_repository,
    )


if __name__ == "__main__":
    main()
