#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module npu_container."""

from __future__ import annotations

DOCUMENTATION = r"""
module: npu_container
short_description: Have a running training container with exactly the wanted NPUs
description:
  - Creates a container from a specification, starts one that is stopped, and creates one anew when its specification or its image's id
    differs, but never while a training job runs in it. Docker's own trap, an empty directory on the server for each mount source that is
    absent, is avoided by looking at every device and every source first; all that is wrong is named at once.
  - After each start of the container a program is run in it once, which loads torch_npu and counts the NPUs.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.work_root, fleet.docker]
options:
  name:
    description: Name of the container.
    type: str
    required: true
  image:
    description: Name or id of the image, which has to be on the server.
    type: str
    required: true
  npus:
    description: Physical ids of the NPUs. In the container they have dense logical ids from 0 on.
    type: list
    elements: int
    required: true
  device_directory:
    description: Directory of the device nodes on the server.
    type: path
    default: /dev
  manager_devices:
    description: Device nodes that every NPU container needs beside the cards.
    type: list
    elements: str
    default: [davinci_manager, devmm_svm, hisi_hdc]
  npu_smi:
    description: Where npu-smi may be on the server. The first one that is there is mounted at its own path; an empty list mounts none.
    type: list
    elements: path
    default: [/usr/local/bin/npu-smi, /usr/local/sbin/npu-smi]
  mounts:
    description: Paths of the server that show in the container.
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: Path on the server.
        type: path
        required: true
      target:
        description: Path in the container; the same as the source by default.
        type: path
      type:
        description: What the source has to be.
        type: str
        choices: [file, directory, any]
        default: any
      read_only:
        description: The container cannot write there.
        type: bool
        default: false
      optional:
        description: Leave the mount out where the source is absent.
        type: bool
        default: false
      create:
        description: Make the source, a directory, where it is absent.
        type: bool
        default: false
  network:
    description: Network of the container. Training over several servers needs V(host).
    type: str
    default: host
  ipc:
    description: IPC namespace. With V(host) the server's own /dev/shm is used; empty is the engine's default.
    type: str
    default: host
  shm_size:
    description: Size of a private /dev/shm, for example V(200g). Excludes O(ipc=host).
    type: str
    default: ''
  ulimits:
    description: Limits by name, each V(soft:hard) or one value for both.
    type: dict
    default: {}
  environment:
    description: Environment variables of everything that runs in the container.
    type: dict
    default: {}
  privileged:
    description: Give the container every right. It then sees every NPU of the server by its physical id, whatever O(npus) says.
    type: bool
    default: false
  init:
    description: Run a small init as first process, so that ended processes are reaped.
    type: bool
    default: true
  restart:
    description: Restart policy of the engine.
    type: str
    choices: ['no', on-failure, unless-stopped, always]
    default: 'no'
  command:
    description: What keeps the container running.
    type: list
    elements: str
    default: [sleep, infinity]
  extra_arguments:
    description: Further arguments of C(docker create); part of the specification.
    type: list
    elements: str
    default: []
  env_scripts:
    description: Environment scripts that are sourced in the container before the look from inside.
    type: list
    elements: str
    default: []
  python:
    description: Python of the container.
    type: str
    default: python
  replace_foreign:
    description: Replace a container of that name that was not made by this module.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Predicts from the same comparison and changes nothing. Absent devices and mount sources fail there too.
  diff_mode:
    support: full
    description: Shows the specification before and after.
  idempotent:
    support: full
    description: Does nothing when the container runs with the wanted specification and image.
"""

EXAMPLES = r"""
- name: Have a training container with NPUs 4 to 7
  npu_container:
    name: LLM-2025-rc1
    image: mindspeed-llm:2025.rc1-arm
    npus: [4, 5, 6, 7]
    work_root: /data/ascend-fleet
    ipc: private
    shm_size: 200g
    mounts:
      - source: /data/ascend-fleet
        type: directory
        create: true
      - source: /usr/local/Ascend/driver
        type: directory
      - source: /etc/hccn.conf
        type: file
        read_only: true
    env_scripts: [/usr/local/Ascend/ascend-toolkit/set_env.sh]
"""

RETURN = r"""
found:
  description: What was found before, one of V(ok), V(absent), V(stopped), V(different).
  returned: success
  type: str
container:
  description: The container as it is; null where it is only predicted.
  returned: success
  type: dict
  contains:
    id:
      description: Id of the container.
      type: str
    name:
      description: Its name.
      type: str
    image_id:
      description: Id of its image.
      type: str
    status:
      description: Status as the engine names it.
      type: str
    started_at:
      description: Time of its last start, as the engine writes it.
      type: str
probe:
  description: What was seen from inside; null where it is only predicted.
  returned: success
  type: dict
  contains:
    python:
      description: Version of its Python.
      type: str
    executable:
      description: Path of its Python.
      type: str
    machine:
      description: Architecture.
      type: str
    npus:
      description: Number of NPUs that torch_npu sees.
      type: int
    versions:
      description: Versions of torch and torch_npu.
      type: dict
actions:
  description: What was done, or would be, one line a step.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.docker_container import ensure_container
from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.options import DOCKER, WORK_ROOT

MOUNT = {
    "source": {"type": "path", "required": True},
    "target": {"type": "path"},
    "type": {"type": "str", "choices": ["file", "directory", "any"], "default": "any"},
    "read_only": {"type": "bool", "default": False},
    "optional": {"type": "bool", "default": False},
    "create": {"type": "bool", "default": False},
}
ARGUMENTS = {
    **WORK_ROOT,
    **DOCKER,
    "name": {"type": "str", "required": True},
    "image": {"type": "str", "required": True},
    "npus": {"type": "list", "elements": "int", "required": True},
    "device_directory": {"type": "path", "default": "/dev"},
    "manager_devices": {"type": "list", "elements": "str", "default": ["davinci_manager", "devmm_svm", "hisi_hdc"]},
    "npu_smi": {
        "type": "list",
        "elements": "path",
        "default": ["/usr/local/bin/npu-smi", "/usr/local/sbin/npu-smi"],
    },
    "mounts": {"type": "list", "elements": "dict", "default": [], "options": MOUNT},
    "network": {"type": "str", "default": "host"},
    "ipc": {"type": "str", "default": "host"},
    "shm_size": {"type": "str", "default": ""},
    "ulimits": {"type": "dict", "default": {}},
    "environment": {"type": "dict", "default": {}},
    "privileged": {"type": "bool", "default": False},
    "init": {"type": "bool", "default": True},
    "restart": {"type": "str", "choices": ["no", "on-failure", "unless-stopped", "always"], "default": "no"},
    "command": {"type": "list", "elements": "str", "default": ["sleep", "infinity"]},
    "extra_arguments": {"type": "list", "elements": "str", "default": []},
    "env_scripts": {"type": "list", "elements": "str", "default": []},
    "python": {"type": "str", "default": "python"},
    "replace_foreign": {"type": "bool", "default": False},
}


def main() -> None:
    """Run the module."""
    run_module(ARGUMENTS, ensure_container)


if __name__ == "__main__":
    main()
