# SPDX-License-Identifier: GPL-3.0-or-later
"""receipt_info: what is in use on a host, and nothing where nothing is."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.manifest import Manifest
from ansible.module_utils.ascend_fleet.receipt import Receipt, Store, converge

from tests.conftest import RunModule


def test_in_pipeline_order_and_never_changed(run_library: RunModule, tmp_path: Path) -> None:
    def build(directory: str, verdict: object) -> dict[str, str]:
        (Path(directory) / "file").write_text("x")
        return {"host": "npu-1"}

    converge(Store(Host(), str(tmp_path), "dataset"), {"a": 1}, build)
    converge(Store(Host(), str(tmp_path), "weights"), {"a": 2}, build)
    source = Receipt("source", {"commits": {"MindSpeed": "c" * 40}}, Manifest({}))
    Store(Host(), str(tmp_path), "source").write(source, str(tmp_path / "source"))
    result = run_library("receipt_info", {"work_root": str(tmp_path)})
    assert [receipt["stage"] for receipt in result["receipts"]] == ["source", "weights", "dataset"]
    assert result["receipts"][1]["made_with"] == {"host": "npu-1"}
    assert not result.changed


def test_bare_host(run_library: RunModule, tmp_path: Path) -> None:
    assert run_library("receipt_info", {"work_root": str(tmp_path / "absent")})["receipts"] == []
