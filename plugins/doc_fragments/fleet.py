# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of what several modules have in common; module_utils/ascend_fleet/options.py has the same options as argument_spec."""

from __future__ import annotations


class ModuleDocFragment:
    """One attribute for each group, used as `extends_documentation_fragment: [fleet.<group>]`."""

    WORK_ROOT = r"""
options:
  work_root:
    description: The directory on the server that everything derives from; the same path inside the container.
    type: path
    required: true
"""

    DOCKER = r"""
options:
  docker_cli:
    description: Docker or a command-line tool compatible with it.
    type: str
    default: docker
"""

    CONTAINER = r"""
options:
  container:
    description: Name of the running training container.
    type: str
    required: true
  env_scripts:
    description: Environment scripts of the image, sourced in the container before anything runs there.
    type: list
    elements: str
    default: []
  docker_cli:
    description: Docker or a command-line tool compatible with it.
    type: str
    default: docker
"""

    NPUS = r"""
options:
  visible_devices:
    description:
      - The ids by which the container knows the NPUs of this host that the run has, as E(ASCEND_RT_VISIBLE_DEVICES) of the plan lists them.
      - Without them the first NPU that the container sees is used. In a privileged container that is card 0, whoever it belongs to.
    type: str
    default: ""
"""

    VERIFY = r"""
options:
  verify:
    description: How what is there is compared with its manifest, by size and time or by content.
    type: str
    choices: [stat, content]
    default: stat
"""

    MIRROR = r"""
options:
  record:
    description: JSON file that says of everything mirrored what it is, where it came from and the digest of every file.
    type: path
    required: true
  verify:
    description: How what is there is compared with the record, by size and time or by content.
    type: str
    choices: [stat, content]
    default: stat
attributes:
  check_mode:
    support: full
    description: Predicts from the same comparison, without the network, and changes nothing.
  diff_mode:
    support: full
    description: Shows what was asked for before and is now, and what was found.
  idempotent:
    support: full
    description: Needs neither change nor network when what is there is what is recorded and asked for.
"""

    ENGINE = r"""
options:
  engine:
    description:
      - V(native) works with this project's worker, V(upstream) with the pinned release's script.
      - V(auto) is native for the models for which that is proven to give upstream's result, else upstream.
    type: str
    choices: [auto, native, upstream]
    default: auto
  native_families:
    description: Model types for which the native engine was compared with this release; V(auto) is native for these alone.
    type: list
    elements: str
    default: [qwen2, llama]
  stall_seconds:
    description: Upstream's script is ended when it has neither computed nor read nor written for so long.
    type: int
    default: 180
"""

    NPU = r"""
options:
  npu_smi:
    description: Name or path of the tool npu-smi.
    type: str
    default: npu-smi
  timeout:
    description: Seconds that one call of a tool may take before it is ended and reported.
    type: float
    default: 20
  expected_chips:
    description:
      - A list of the physical ids (N of C(/dev/davinciN)) that have to be there, healthy and free; or one number, of how many chips
        there have to be, all of them healthy.
      - Without a list, every chip found has to be healthy, and processes on them are only reported.
    type: raw
    default: []
  allowed_container:
    description: Name of the container that may hold the expected chips.
    type: str
    default: ""
  minimum_driver:
    description: Oldest driver version that will do, for example V(25.0.rc1). Empty takes any.
    type: str
    default: ""
  details:
    description:
      - What else to ask each chip or card for, one call of the tool each. V(ecc) finds uncorrectable memory errors, V(board) firmware that
        differs between cards, V(memory) and V(usages) a capacity that differs from the table's.
    type: list
    elements: str
    choices: [board, ecc, memory, usages]
    default: []
  docker_cli:
    description: Docker or a command-line tool compatible with it; asked only when a container holds an NPU.
    type: str
    default: docker
"""

    HCCN = r"""
options:
  hccn_tool:
    description: Name or path of the tool hccn_tool; the driver's own directory is looked into as well.
    type: str
    default: hccn_tool
  hccn_conf:
    description: The file with the addresses that are set at start and that HCCL reads.
    type: path
    default: /etc/hccn.conf
  timeout:
    description: Seconds that one call of a tool may take before it is ended and reported.
    type: float
    default: 20
  optical:
    description: Also read the values of the optical modules, and compare them with the thresholds that the modules name.
    type: bool
    default: false
  mtu:
    description: Also read the MTU of the NPUs' ports.
    type: bool
    default: false
"""

    READS = r"""
attributes:
  check_mode:
    support: full
    description: Only reads.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Only reads.
"""

    CONVERGES = r"""
attributes:
  check_mode:
    support: full
    description: Predicts from the same comparison and changes nothing.
  diff_mode:
    support: full
    description: Shows the inputs before and after.
"""
