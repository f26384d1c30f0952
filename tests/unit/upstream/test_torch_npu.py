# SPDX-License-Identifier: GPL-3.0-or-later
"""The CPU stand-in for torch_npu: it counts, numbers and holds nodes as the driver does, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.unit.upstream.conftest import load_source

PACKAGE = ROOT / "lab" / "torch_npu_cpu"


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    """A device directory with cards 2, 3 and 10, and names that are no cards."""
    for name in ("davinci10", "davinci2", "davinci3", "davinci_manager", "davinci2_old", "hisi_hdc"):
        (tmp_path / name).touch()
    return tmp_path


def ask(nodes: Path, code: str, **variables: str) -> Any:
    """Run code that prints one JSON value with the stand-in importable."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PACKAGE),
        "ASCEND_LAB_DEV_ROOT": str(nodes),
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    lines = f"import json, torch, torch_npu\n{code}"
    done = subprocess.run([sys.executable, "-c", lines], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_logical_ids_are_dense_in_physical_order(nodes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = load_source("torch_npu_cpu/torch_npu/_devices.py")
    monkeypatch.setenv("ASCEND_LAB_DEV_ROOT", str(nodes))
    assert [node.name for node in devices.visible_nodes()] == ["davinci2", "davinci3", "davinci10"]


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("0,1", ["davinci2", "davinci3"]),
        ("2,0", ["davinci10", "davinci2"]),
        ("1,7,0", ["davinci3"]),
        ("1,1", ["davinci3"]),
        ("", []),
        ("2,3", ["davinci10"]),  # physical ids by mistake: 3 is no logical id here
    ],
)
def test_visible_devices_are_logical_ids(
    nodes: Path, monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]
) -> None:
    devices = load_source("torch_npu_cpu/torch_npu/_devices.py")
    monkeypatch.setenv("ASCEND_LAB_DEV_ROOT", str(nodes))
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", visible)
    assert [node.name for node in devices.visible_nodes()] == names


def test_a_chosen_device_is_held_open_and_others_are_not(nodes: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "def held(): return sorted({str(f.resolve()) for f in Path('/proc/self/fd').iterdir() if 'davinci' in str(f.resolve())})\n"
        "before = held(); torch.npu.set_device('npu:1'); torch.npu.set_device(1)\n"
        "print(json.dumps([before, held(), torch.npu.current_device(), torch.npu.device_count(), torch.npu.is_available()]))"
    )
    assert ask(nodes, code) == [[], [str(nodes / "davinci3")], 1, 3, True]


def test_an_id_out_of_range_is_an_error_that_names_it(nodes: Path) -> None:
    code = "try: torch.npu.set_device(2)\nexcept RuntimeError as error: print(json.dumps(str(error)))"
    message = ask(nodes, code, ASCEND_RT_VISIBLE_DEVICES="0,1")
    assert "aclrtSetDevice(2), error code is 107001" in message
    assert "sees 2 device(s)" in message


def test_no_node_means_no_device(tmp_path: Path) -> None:
    code = "print(json.dumps([torch.npu.device_count(), torch.npu.is_available()]))"
    assert ask(tmp_path, code) == [0, False]


@pytest.mark.parametrize("backend", ["hccl", "nccl"])
def test_device_backends_are_gloo(nodes: Path, tmp_path: Path, backend: str) -> None:
    code = (
        "import torch_npu.contrib.transfer_to_npu, torch.distributed as dist\n"
        f"dist.init_process_group('{backend}', init_method='file://{tmp_path}/store', rank=0, world_size=1)\n"
        "import os\n"
        "print(json.dumps([dist.get_backend(), torch.cuda.device_count(), os.environ['GLOO_SOCKET_IFNAME']]))"
    )
    assert ask(nodes, code, HCCL_SOCKET_IFNAME="=lo") == ["gloo", 3, "lo"]


def test_it_refuses_a_machine_with_a_real_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = load_source("torch_npu_cpu/torch_npu/_devices.py")
    assert devices.real_driver_sign() is None
    monkeypatch.setattr(devices, "_DRIVER_DEVICES", ("mem",))  # a driver that every kernel has
    assert devices.real_driver_sign() == "mem in /proc/devices"


def test_seeding_does_not_call_itself(nodes: Path) -> None:
    code = (
        "import torch_npu.contrib.transfer_to_npu\n"
        "torch.npu.manual_seed(3); a = torch.rand(1).item(); torch.manual_seed(3)\n"
        "print(json.dumps(a == torch.rand(1).item()))"
    )
    assert ask(nodes, code) is True
