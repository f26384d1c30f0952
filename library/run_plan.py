#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module run_plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_plan
short_description: Plan a training run from a release, a recipe, the hosts and the model's config.json
description:
  - Turns what belongs together, what is to be trained, where, and the model's own sizes into one plan that every stage follows;
    the parallel sizes, which rank is where, which shards each host needs, the training arguments and each host's environment.
  - A pure function of its parameters. It touches no host and is meant to be delegated to the controller.
  - Everything that upstream could not start, or would compute differently, is refused; all reasons are reported at once.
  - What a rank needs of its NPU's memory is estimated. A run that does not fit is refused with what would.
author: ascend-fleet contributors (@ascend-fleet)
options:
  release:
    description: The release row, as in C(releases/<name>.yml); empty when O(release_name) is unknown.
    type: dict
    required: true
  release_name:
    description: Name by which the release was asked for.
    type: str
    default: ''
  known_releases:
    description: Names of the releases that exist; empty compares nothing.
    type: list
    elements: str
    default: []
  release_overrides:
    description:
      - Values of this site that replace those of the release row, in its structure. C(commits), a mapping of source to full commit,
        is short for the commits below C(sources).
    type: dict
    default: {}
  recipe:
    description: The recipe, as in C(recipes/<name>.yml); empty when O(recipe_name) is unknown.
    type: dict
    required: true
  recipe_name:
    description: Name by which the recipe was asked for.
    type: str
    default: ''
  known_recipes:
    description: Names of the recipes that exist; empty compares nothing.
    type: list
    elements: str
    default: []
  overrides:
    description:
      - Flat changes to the recipe (V(tp), V(pp), V(cp), V(dp), V(layers_per_stage), V(iterations), V(global_batch_size),
        V(micro_batch_size), V(seq_length), V(seed), V(split), V(save_interval), V(vocab_divisible_by), V(padded_vocab_size))
        and the mappings V(dataset), V(arguments) and V(environment), which are merged. 0 and nothing leave the recipe's value.
    type: dict
    default: {}
  hosts:
    description: The training hosts in rank order.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Inventory name.
        type: str
        required: true
      address:
        description: Address by which the other hosts reach this one.
        type: str
      npus:
        description: Physical ids of the NPUs that the run uses. What is no number is refused by the plan, with the host's name.
        type: list
        elements: raw
      interface:
        description: Network interface that carries the address.
        type: str
      hbm_mb:
        description: Memory of the host's smallest NPU in MB, as npu-smi reports its total; a number.
        type: raw
  hbm_mb:
    description: The same for hosts that do not say it.
    type: int
    default: 65536
  memory_check:
    description: Whether a run that does not fit by the estimate is refused or only warned about.
    type: str
    choices: [refuse, warn]
    default: refuse
  search:
    description:
      - Let the plan choose TP, PP, micro batch and recomputation; of what fits, what is fastest by estimate.
      - What the recipe and O(overrides) say about those is then replaced, and a warning says by what.
    type: bool
    default: false
  model_config:
    description: The model's config.json.
    type: dict
    required: true
  tokenizer_config:
    description: The model's tokenizer_config.json; without it the end of document is not checked.
    type: dict
  output:
    description:
      - File on the controller that gets the plan as JSON, also when it is refused; the action plugin of this name writes a page
        with pictures beside it, with the extension C(.html). Empty writes nothing.
    type: path
    default: ''
  previous:
    description: An earlier plan; what this one says differently is returned.
    type: dict
  work_root:
    description: Directory on the servers from which everything derives, the same in the container.
    type: path
    required: true
  master_port:
    description: Port on the first host where the ranks meet.
    type: int
    default: 6000
  architecture:
    description: Architecture of the servers, as the release row names its images.
    type: str
    default: aarch64
  chip:
    description: Generation of the NPUs, as the release row names its images where they differ by it.
    type: str
    default: a2
  conversion_host:
    description: Inventory name of the host that converts the weights; empty takes the first.
    type: str
    default: ''
  shared_storage:
    description: Whether the hosts see the same work root.
    type: bool
    default: false
  physical_ids:
    description: Whether the container sees the NPUs under their physical ids, as a privileged one does.
    type: bool
    default: false
  connect_timeout:
    description: Seconds that the ranks wait for each other at the start.
    type: int
    default: 1800
  execution_timeout:
    description: Seconds that a communication operation waits for its other ranks.
    type: int
    default: 1836
  environment:
    description: Additional environment of the training processes; replaces what the plan would set.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Says whether O(output) would get another content.
  diff_mode:
    support: none
    description: The plan is returned whole; there is nothing on a host to compare it with.
  idempotent:
    support: full
    description: The same parameters give the same plan and the same files.
"""

EXAMPLES = r"""
- name: Plan a run on two servers with two NPUs each
  run_plan:
    release: "{{ lookup('ansible.builtin.file', 'releases/2.0.0.yml') | from_yaml }}"
    recipe: "{{ lookup('ansible.builtin.file', 'recipes/qwen2-lab.yml') | from_yaml }}"
    overrides: {tp: 2, pp: 2}
    hosts:
      - {name: npu-1, address: 192.0.2.11, npus: [2, 3], interface: eth0}
      - {name: npu-2, address: 192.0.2.12, npus: [2, 3], interface: eth0}
    model_config: "{{ lookup('ansible.builtin.file', 'config.json') | from_json }}"
    work_root: /data/ascend-fleet
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
plan:
  description:
    - The run plan. C(world_size), C(nnodes), C(nproc_per_node), C(tp), C(pp), C(cp) and C(dp) are counts; C(hosts), C(ranks), C(shards)
      (loaded) and C(writers) (saved) say what is where; C(training_arguments) follow C(launch.script); C(environment) and
      C(launch.arguments) are per host; C(release), C(model), C(conversion), C(dataset) and C(train) are what the stages work with;
      C(train.seq_length) in tokens, C(train.save_interval) in iterations. C(memory) says for each rank, in bytes, what it needs
      (C(static), C(activation), C(communication), C(runtime), C(total)) and has (C(capacity)); C(problems), C(warnings) and
      C(suggestions) are what was found.
    - That of a run that is refused, as far as it goes, is only in O(output).
  returned: success
  type: dict
summary:
  description: The first lines of the table and the warnings, for a run that is about another stage.
  returned: success
  type: list
  elements: str
differences:
  description: What this plan says differently from O(previous).
  returned: success
  type: list
  elements: str
suggestions:
  description:
    - What fits instead of a run that does not; the longest sequence for its sizes, then the best other sizes for its sequence.
    - Each has C(kind) (V(sequence) or V(sizes)), C(text), C(tp), C(pp), C(cp), C(dp), C(micro_batch_size), C(seq_length),
      C(recompute) (arguments), C(slowdown) (1.0 for no bubble and nothing computed twice) and C(memory) of the fullest rank in bytes.
  returned: failure
  type: list
  elements: dict
table:
  description: The plan as lines for a terminal.
  returned: success
  type: list
  elements: str
problems:
  description: Every reason why the run is refused.
  returned: failure
  type: list
  elements: str
refusals:
  description: The same in parts, each with C(code), C(what), C(nearest) and C(remedy).
  returned: failure
  type: list
  elements: dict
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.plan_module import run_plan

HOST = {
    "name": {"type": "str", "required": True},
    "address": {"type": "str"},
    "npus": {"type": "list", "elements": "raw"},
    "interface": {"type": "str"},
    "hbm_mb": {"type": "raw"},
}
SPEC = {
    "release": {"type": "dict", "required": True},
    "release_name": {"type": "str", "default": ""},
    "known_releases": {"type": "list", "elements": "str", "default": []},
    "release_overrides": {"type": "dict", "default": {}},
    "recipe": {"type": "dict", "required": True},
    "recipe_name": {"type": "str", "default": ""},
    "known_recipes": {"type": "list", "elements": "str", "default": []},
    "overrides": {"type": "dict", "default": {}},
    "hosts": {"type": "list", "elements": "dict", "required": True, "options": HOST},
    "hbm_mb": {"type": "int", "default": 65536},
    "memory_check": {"type": "str", "choices": ["refuse", "warn"], "default": "refuse"},
    "search": {"type": "bool", "default": False},
    "model_config": {"type": "dict", "required": True},
    "tokenizer_config": {"type": "dict", "no_log": False},
    "output": {"type": "path", "default": ""},
    "previous": {"type": "dict"},
    "work_root": {"type": "path", "required": True},
    "master_port": {"type": "int", "default": 6000},
    "architecture": {"type": "str", "default": "aarch64"},
    "chip": {"type": "str", "default": "a2"},
    "conversion_host": {"type": "str", "default": ""},
    "shared_storage": {"type": "bool", "default": False},
    "physical_ids": {"type": "bool", "default": False},
    "connect_timeout": {"type": "int", "default": 1800},
    "execution_timeout": {"type": "int", "default": 1836},
    "environment": {"type": "dict", "default": {}},
}


def main() -> None:
    """Run the module."""
    run_module(SPEC, run_plan)


if __name__ == "__main__":
    main()
