#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module receipt_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: receipt_info
short_description: Read the receipts of the artifacts in use on a host
description:
  - Returns what each stage left beside its artifact, in the order of the pipeline. Reads only; a stage without a receipt is left out.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.work_root, fleet.reads]
"""

EXAMPLES = r"""
- name: Read the receipts
  receipt_info:
    work_root: /data/ascend-fleet
  register: receipts
"""

RETURN = r"""
receipts:
  description: Summaries of the receipts.
  returned: success
  type: list
  elements: dict
  contains:
    stage:
      description: Name of the stage's directory.
      type: str
    fingerprint:
      description: Name that the inputs give to the artifact.
      type: str
    inputs:
      description: What decided about the artifact.
      type: dict
    made_with:
      description: Host, versions, duration in seconds and the like.
      type: dict
    parents:
      description: Stage and fingerprint of what it was made from.
      type: dict
    files:
      description: Number of files.
      type: int
    bytes:
      description: Their sizes added up, in bytes.
      type: int
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.options import WORK_ROOT
from ansible.module_utils.ascend_fleet.receipts_on_host import gather


def main() -> None:
    """Run the module."""
    run_module(WORK_ROOT, gather)


if __name__ == "__main__":
    main()
