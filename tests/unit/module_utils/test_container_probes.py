# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs in the container answer, and what must not be taken for an answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet import docker_probe, source_tree_probe
from ansible.module_utils.ascend_fleet.errors import UnparsedError, VerificationError
from ansible.module_utils.ascend_fleet.host import Completed, Host


def said(text: str) -> Completed:
    return Completed(["python", "-"], 0, text, "")


@pytest.mark.parametrize("text", ["", "Traceback", "[]", '{"python": "3.8"}', "{}\n\nbye"])
def test_other_output_is_no_answer(text: str) -> None:
    with pytest.raises(UnparsedError):
        docker_probe.parse(said(text))
    with pytest.raises(UnparsedError):
        source_tree_probe.parse(said(text))


def test_a_python_without_torch_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program itself, run by a bare Python of this machine."""
    done = Host().run([sys.executable, "-S", "-E", "-"], stdin=docker_probe.PROGRAM, cwd=str(tmp_path))
    found = docker_probe.parse(done)
    assert found.npus == -1
    assert set(found.errors) == {"torch", "torch_npu"}
    with pytest.raises(VerificationError, match="No module named 'torch'"):
        docker_probe.require(found, "llm", [0])


def test_more_npus_than_given_are_wrong_too() -> None:
    answer = {"python": "3.8", "executable": "", "machine": "", "npus": 8, "torch": "2", "torch_npu": "2", "errors": {}}
    found = docker_probe.parse(said(json.dumps(answer)))
    with pytest.raises(VerificationError, match="torch_npu sees 8"):
        docker_probe.require(found, "llm", [4, 5, 6, 7])
    docker_probe.require(found, "llm", [4, 5, 6, 7], privileged=True)
    with pytest.raises(VerificationError, match="torch_npu sees 8"):
        docker_probe.require(found, "llm", list(range(9)), privileged=True)


def test_a_package_from_elsewhere_is_a_problem_and_one_of_the_image_is_not() -> None:
    packages = {
        "torch": {"file": "/usr/lib/torch/__init__.py", "version": "2.1.0"},
        "mindspeed": {"file": "/usr/lib/mindspeed/__init__.py", "version": ""},
        "megatron.core": {"file": "/data/source/MindSpeed-LLM/megatron/core/__init__.py", "version": "0.8.0"},
    }
    answer = {"root": "/data/source", "packages": packages, "errors": {}, "python": "3.8.18"}
    seen = source_tree_probe.parse(said(json.dumps(answer)))
    assert seen.problems() == [
        "mindspeed is taken from /usr/lib/mindspeed/__init__.py and not from /data/source/MindSpeed/"
    ]
    assert seen.versions == {"torch": "2.1.0", "megatron.core": "0.8.0", "python": "3.8.18"}
