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
    for receipt in (
        Receipt("source", {"commits": {"MindSpeed": "c" * 40}}, Manifest({})),
        Receipt("container", {}, Manifest({})),
    ):
        Store(Host(), str(tmp_path), receipt.stage).write(receipt, str(tmp_path / receipt.stage))
    result = run_library("receipt_info", {"work_root": str(tmp_path)})
    assert [receipt["stage"] for receipt in result["receipts"]] == ["container", "source", "weights", "dataset"]
    assert result["receipts"][2]["made_with"] == {"host": "npu-1"}
    assert not result.changed


def test_bare_host(run_library: RunModule, tmp_path: Path) -> None:
    assert run_library("receipt_info", {"work_root": str(tmp_path / "absent")})["receipts"] == []
