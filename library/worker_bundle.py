#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module worker_bundle."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: worker_bundle
short_description: Bring the worker programs to a server
version_added: "0.1.0"
description:
  - Keeps C(<work_root>/workers/) equal to the project's own C(workers/). These programs run inside the training container, where torch is.
  - The action plugin of the same name reads the files on the controller, so a task gives O(work_root) only. Files that are no longer
    part are removed.
extends_documentation_fragment: [fleet.work_root]
options:
  files:
    description: Text of each program by file name. Filled in by the action plugin.
    type: dict
attributes:
  check_mode:
    support: full
    description: Predicts from the same comparison.
  diff_mode:
    support: full
    description: Shows the files that differ with the beginning of their SHA-256.
  idempotent:
    support: full
    description: A second run changes nothing.
author:
  - ascend-fleet contributors (@ascend-fleet)
"""

EXAMPLES = r"""
- name: Bring the worker programs
  worker_bundle:
    work_root: /data/ascend-fleet
"""

RETURN = r"""
directory:
  description: Where the programs are.
  returned: success
  type: str
  sample: /data/ascend-fleet/workers
files:
  description: Number of programs.
  returned: success
  type: int
  sample: 24
fingerprint:
  description: Hash of all of them.
  returned: success
  type: str
  sample: 4a1f0c9a5d2e7f64
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.options import WORK_ROOT
from ansible.module_utils.ascend_fleet.worker_files import deliver_workers


def main() -> None:
    """Deliver the programs."""
    run_module({**WORK_ROOT, "files": {"type": "dict"}}, deliver_workers)


if __name__ == "__main__":
    main()
