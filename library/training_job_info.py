#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module training_job_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: training_job_info
short_description: Tell how a training run is going on a host
description:
  - With a plan it looks at the run that the plan asks for, and at what stands against starting it here.
  - Without a plan it looks at the run that is in use on this host, whatever it is.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.work_root, fleet.docker, fleet.verify, fleet.reads]
options:
  host:
    description: Name of this host in the run plan.
    type: str
    required: true
  container:
    description: Name of the training container. Needed together with O(plan).
    type: str
    default: ""
  plan:
    description: The run plan.
    type: dict
"""

EXAMPLES = r"""
- name: Look at the run on every host
  training_job_info:
    work_root: /data/ascend-fleet
    host: "{{ inventory_hostname }}"
    container: LLM-2025-rc1
    plan: "{{ fleet_plan }}"
  register: found

- name: Show how far it is
  ansible.builtin.debug:
    msg: "{{ found.progress }}"
"""

RETURN = r"""
fingerprint:
  description: Name of the run; null when there is none.
  returned: success
  type: str
directory:
  description: Directory of the run; null when there is none.
  returned: success
  type: str
run_state:
  description:
    - State of the run on this host, one of V(absent), V(starting), V(running), V(ending), V(succeeded), V(failed), V(stopped), V(crashed),
      V(finished), V(damaged).
  returned: success
  type: str
progress:
  description: How far the run is, in words.
  returned: success
  type: str
status:
  description: What the supervisor says. Losses in nats per token, C(ms_per_iteration) in milliseconds, times in seconds since the epoch.
  returned: success
  type: dict
look:
  description: What module training_job decides from, given those of all hosts as its C(fleet); null without O(plan).
  returned: success
  type: dict
missing:
  description: Stages that have left nothing on this host yet; only in check mode.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.options import DOCKER, VERIFY, WORK_ROOT
from ansible.module_utils.ascend_fleet.training_look import job_info


def main() -> None:
    """Run the module."""
    run_module(
        {
            **WORK_ROOT,
            **DOCKER,
            **VERIFY,
            "host": {"type": "str", "required": True},
            "container": {"type": "str", "default": ""},
            "plan": {"type": "dict"},
        },
        job_info,
    )


if __name__ == "__main__":
    main()
