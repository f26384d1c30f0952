# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that several modules take alike, as argument_spec. plugins/doc_fragments/fleet.py documents each under the same name."""

from __future__ import annotations

from typing import Any, Mapping

Spec = Mapping[str, Mapping[str, Any]]

WORK_ROOT: Spec = {"work_root": {"type": "path", "required": True}}
DOCKER: Spec = {"docker_cli": {"type": "str", "default": "docker"}}
CONTAINER: Spec = {
    "container": {"type": "str", "required": True},
    "env_scripts": {"type": "list", "elements": "str", "default": []},
    **DOCKER,
}
NPUS: Spec = {"visible_devices": {"type": "str", "default": ""}}
VERIFY: Spec = {"verify": {"type": "str", "choices": ["stat", "content"], "default": "stat"}}
MIRROR: Spec = {"record": {"type": "path", "required": True}, **VERIFY}
ENGINE: Spec = {
    "engine": {"type": "str", "choices": ["auto", "native", "upstream"], "default": "auto"},
    "native_families": {"type": "list", "elements": "str", "default": ["qwen2", "llama"]},
    "stall_seconds": {"type": "int", "default": 180},
}
NPU: Spec = {
    "npu_smi": {"type": "str", "default": "npu-smi"},
    "timeout": {"type": "float", "default": 20},
    "expected_chips": {"type": "raw", "default": []},
    "allowed_container": {"type": "str", "default": ""},
    "minimum_driver": {"type": "str", "default": ""},
    "details": {
        "type": "list",
        "elements": "str",
        "choices": ["board", "ecc", "memory", "usages"],
        "default": [],
    },
    **DOCKER,
}
HCCN: Spec = {
    "hccn_tool": {"type": "str", "default": "hccn_tool"},
    "hccn_conf": {"type": "path", "default": "/etc/hccn.conf"},
    "timeout": {"type": "float", "default": 20},
    "optical": {"type": "bool", "default": False},
    "mtu": {"type": "bool", "default": False},
}
