# SPDX-License-Identifier: GPL-3.0-or-later
"""worker_bundle: the server's programs become those of the checkout, in one call."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail

from tests.conftest import ROOT, RunModule

PROGRAMS = {"convert.py": "print('convert')\n", "_common.py": "LIMIT = 1  # 上限\n"}


@pytest.fixture
def params(tmp_path: Path) -> dict[str, Any]:
    return {"work_root": str(tmp_path), "files": PROGRAMS}


def test_first_run_writes_second_run_looks(run_library: RunModule, tmp_path: Path, params: dict[str, Any]) -> None:
    predicted = run_library("worker_bundle", params, check_mode=True)
    assert predicted.changed
    assert list(tmp_path.iterdir()) == []
    first = run_library("worker_bundle", params)
    assert first.changed
    assert first["diff"] == predicted["diff"]
    assert first["diff"]["before"] == {}
    assert sorted(first["diff"]["after"]) == ["_common.py", "convert.py"]
    for name, text in PROGRAMS.items():
        assert (tmp_path / "workers" / name).read_text() == text
    second = run_library("worker_bundle", params)
    assert not second.changed
    assert "diff" not in second.data
    assert second["fingerprint"] == first["fingerprint"]


def test_only_what_differs_is_written_and_strangers_go(
    run_library: RunModule, tmp_path: Path, params: dict[str, Any]
) -> None:
    run_library("worker_bundle", params)
    kept = (tmp_path / "workers" / "_common.py").stat().st_mtime_ns
    (tmp_path / "workers" / "convert.py").write_text("edited")
    (tmp_path / "workers" / "gone.py").write_text("old")
    (tmp_path / "workers" / "__pycache__").mkdir()
    again = run_library("worker_bundle", params)
    assert again["actions"] == ["write convert.py", "remove gone.py"]
    assert set(again["diff"]["before"]) == {"convert.py", "gone.py"}
    assert set(again["diff"]["after"]) == {"convert.py"}
    assert (tmp_path / "workers" / "_common.py").stat().st_mtime_ns == kept
    assert sorted(path.name for path in (tmp_path / "workers").iterdir()) == ["__pycache__", "_common.py", "convert.py"]


@pytest.mark.parametrize("files", [{}, {"../evil.py": ""}, {"notes.txt": ""}])
def test_other_things_than_programs_are_refused(run_library: RunModule, tmp_path: Path, files: dict[str, str]) -> None:
    refused = run_library("worker_bundle", {"work_root": str(tmp_path), "files": files})
    assert refused.failed
    assert list(tmp_path.iterdir()) == []


def action_plugin() -> Any:
    path = ROOT / "plugins" / "action" / "worker_bundle.py"
    spec = importlib.util.spec_from_file_location("worker_bundle_action", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_action(module: Any, calls: list[dict[str, Any]]) -> Any:
    action = module.ActionModule.__new__(module.ActionModule)
    action._task = SimpleNamespace(args={"work_root": "/data/fleet"})

    def execute(**call: Any) -> dict[str, Any]:
        calls.append(call)
        return {"changed": True, "invocation": {"module_args": dict(call["module_args"])}}

    action._execute_module = execute
    return action


def test_the_action_hands_over_every_worker_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    module = action_plugin()
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(module.ActionBase, "run", lambda self, tmp, task_vars: {})
    result = make_action(module, calls).run(task_vars={})
    given = calls[0]["module_args"]
    assert given["work_root"] == "/data/fleet"
    assert given["files"] == {path.name: path.read_text() for path in (ROOT / "workers").glob("*.py")}
    assert "verify_model.py" in given["files"]
    assert result["invocation"]["module_args"]["files"] == sorted(given["files"]), "texts are not shown at -v"


def test_the_action_refuses_a_checkout_without_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = action_plugin()
    monkeypatch.setattr(module, "WORKERS", tmp_path)
    monkeypatch.setattr(module.ActionBase, "run", lambda self, tmp, task_vars: {})
    with pytest.raises(AnsibleActionFail, match="complete checkout"):
        make_action(module, []).run(task_vars={})
