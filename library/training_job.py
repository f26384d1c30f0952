#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module training_job."""

from __future__ import annotations

DOCUMENTATION = r"""
module: training_job
short_description: Start, follow and stop a distributed training run
description:
  - A run is named by what goes into it (checkpoint, dataset, source commits, training arguments, sizes) and lives in
    V(run/<fingerprint>/) of the work root. On every host a supervisor in the training container starts torchrun and watches it; the
    supervisors start together, stop together and outlive ssh and the controller.
  - The supervisors end a run at once when the checkpoint was not loaded, when the first loss is not the model's own, when the loss is not
    a number, and when a node fails or falls silent.
  - A run that ended early is resumed from its last checkpoint of which every shard is whole on the host that saved it, if it holds
    optimizer state. Weights that a host loads and another one saved are taken from C(resumed/) of the work root, where role pretraining
    brings them. A run that left something is never given up for other inputs, or for another order of its hosts, unless O(new_run) asks
    for it.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.work_root, fleet.container, fleet.verify]
options:
  state:
    description:
      - V(started) brings it about that this host takes part in the run; a run that goes on or is finished is left alone.
      - V(finished) waits for up to O(wait) seconds for something new; once the run succeeded, it verifies what this host saved and leaves a
        receipt. The action plugin of the same name repeats the call until the end and shows the progress.
      - V(stopped) ends what trains on this host, and with it the run on all of its hosts.
      - V(permitted) changes nothing. It fails where the plan would put another run out of use (arguments, sizes, sources), or has the
        hosts of this run in another order; asked before the stages that prepare a run, it spares them where V(started) would refuse in
        the end.
    type: str
    choices: [permitted, started, finished, stopped]
    default: started
  host:
    description: Name of this host in the run plan.
    type: str
    required: true
  plan:
    description: The run plan. Needed except for O(state=stopped).
    type: dict
  fleet:
    description:
      - What module training_job_info returned as C(look) on all hosts of the run. What to do is decided from them together, so that all
        hosts come to the same answer.
      - Without it this host decides alone.
    type: list
    elements: dict
    default: []
  reference_loss:
    description: The loss that the first iteration has to log, in nats per token. Without it the first loss is not compared with one.
    type: float
  reference_exact:
    description: Whether O(reference_loss) was computed on the whole first global batch; otherwise the comparison is coarse. Without
      O(reference_loss), V(false) means that the first loss has to be below that of random weights.
    type: bool
    default: true
  tolerance:
    description: By how much the first loss may differ, in nats per token.
    type: float
    default: 0.02
  environment:
    description: Environment variables for the training processes, in addition to those of the plan.
    type: dict
    default: {}
  new_run:
    description: Start anew where that puts another run out of use, or gives up what an ended run saved. Nothing is deleted.
    type: bool
    default: false
  start_timeout:
    description: Seconds after which a run is given up when a host did not come to the start.
    type: int
    default: 600
  grace:
    description: Seconds between the polite and the final signal to the training processes.
    type: int
    default: 45
  stop_timeout:
    description: Seconds to wait for the end with O(state=stopped).
    type: int
    default: 180
  wait:
    description: Seconds that one call with O(state=finished) waits for something new.
    type: int
    default: 20
  seen:
    description: What the call before returned as RV(seen).
    type: str
    default: ""
  timeout:
    description:
      - Seconds after which the action plugin gives up following the run, V(0) never. The run itself goes on.
      - Without the action plugin it has no effect.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: Predicts from the same decision; nothing is started, awaited or stopped.
  diff_mode:
    support: full
    description: Shows the inputs before and after.
  idempotent:
    support: full
    description: A run that goes on or is finished is left alone.
"""

EXAMPLES = r"""
- name: Start the run on every host
  training_job:
    state: started
    work_root: /data/ascend-fleet
    host: "{{ inventory_hostname }}"
    container: LLM-2025-rc1
    env_scripts: [/usr/local/Ascend/ascend-toolkit/set_env.sh]
    plan: "{{ fleet_plan }}"
    reference_loss: 6.978

- name: Follow it to its end
  training_job:
    state: finished
    work_root: /data/ascend-fleet
    host: "{{ inventory_hostname }}"
    container: LLM-2025-rc1
    plan: "{{ fleet_plan }}"

- name: Ask whether it may take the place of the run in use
  training_job:
    state: permitted
    work_root: /data/ascend-fleet
    host: "{{ inventory_hostname }}"
    container: LLM-2025-rc1
    plan: "{{ fleet_plan }}"
    new_run: false

- name: Stop whatever trains
  training_job:
    state: stopped
    work_root: /data/ascend-fleet
    host: "{{ inventory_hostname }}"
    container: LLM-2025-rc1
"""

RETURN = r"""
fingerprint:
  description: Name of the run; null when it is only predicted. With O(state=permitted) that of the run in use, null when there is none.
  returned: state is not stopped
  type: str
directory:
  description: Directory of the run.
  returned: state is started or finished
  type: str
run_state:
  description:
    - State of the run on this host, one of V(absent), V(starting), V(running), V(ending), V(succeeded), V(failed), V(stopped), V(crashed),
      V(finished), V(damaged).
  returned: state is not stopped
  type: str
decision:
  description: What was decided, one of V(none), V(start), V(resume), V(join).
  returned: state is started and not only predicted
  type: str
attempt:
  description: How many times the run was started.
  returned: state is started
  type: int
progress:
  description: How far the run is, in words.
  returned: state is started or finished
  type: str
final:
  description: Whether the run is finished and has its receipt.
  returned: state is finished
  type: bool
seen:
  description: Changes whenever there is something new to show.
  returned: state is finished
  type: str
status:
  description:
    - What the supervisor says. Losses in nats per token, C(ms_per_iteration) in milliseconds, times in seconds since the epoch.
  returned: state is finished
  type: dict
artifact:
  description: Summary of the receipt (inputs, made_with with the loss curve, parents, number of files, bytes).
  returned: when the receipt was written
  type: dict
runs:
  description: Fingerprint and progress of the runs that were stopped.
  returned: state is stopped
  type: dict
actions:
  description: What was done, or would be, one line a step.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.options import CONTAINER, VERIFY, WORK_ROOT
from ansible.module_utils.ascend_fleet.training_job import settle


def main() -> None:
    """Run the module."""
    run_module(
        {
            **WORK_ROOT,
            **CONTAINER,
            **VERIFY,
            "state": {"type": "str", "choices": ["permitted", "started", "finished", "stopped"], "default": "started"},
            "host": {"type": "str", "required": True},
            "plan": {"type": "dict"},
            "fleet": {"type": "list", "elements": "dict", "default": []},
            "reference_loss": {"type": "float"},
            "reference_exact": {"type": "bool", "default": True},
            "tolerance": {"type": "float", "default": 0.02},
            "environment": {"type": "dict", "default": {}},
            "new_run": {"type": "bool", "default": False},
            "start_timeout": {"type": "int", "default": 600},
            "grace": {"type": "int", "default": 45},
            "stop_timeout": {"type": "int", "default": 180},
            "wait": {"type": "int", "default": 20},
            "seen": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 0},
        },
        settle,
    )


if __name__ == "__main__":
    main()
