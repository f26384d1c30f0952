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


REDIRECTED = """
import torch_npu.contrib.transfer_to_npu
from torch import device
there = [
    torch.zeros(1, device="cuda"), torch.ones(1, device=torch.cuda.current_device()), torch.empty(1, device=device("cuda", 1)),
    torch.zeros_like(torch.ones(1), device="npu:0"), torch.ones(1).new_zeros(1, device="cuda"),
    torch.ones(1).cuda(), torch.ones(1).npu(), torch.ones(1).to("cuda"), torch.ones(1).to(0), torch.ones(1).to(device="npu"),
    torch.nn.Linear(1, 1).to("cuda").cuda(1).weight, torch.cuda.FloatTensor([1.0]),
    torch.ones(1).type("torch.cuda.HalfTensor"), torch.ones(1).type(torch.float64),
]
"""


def test_what_asks_for_an_npu_is_on_the_cpu(nodes: Path) -> None:
    code = f"{REDIRECTED}\nprint(json.dumps([sorted({{t.device.type for t in there}}), str(there[-2].dtype), str(there[-1].dtype)]))"
    assert ask(nodes, code) == [["cpu"], "torch.float16", "torch.float64"]


def test_a_tensor_names_its_type_as_on_an_npu_and_takes_the_name_back(nodes: Path) -> None:
    code = (
        "import torch_npu.contrib.transfer_to_npu\n"
        "name = torch.ones(1, dtype=torch.bfloat16).type()\n"
        "print(json.dumps([name, str(torch.ones(1).type(name).dtype)]))"
    )
    assert ask(nodes, code) == ["torch.npu.BFloat16Tensor", "torch.bfloat16"]


def test_plain_torch_npu_leaves_devices_alone(nodes: Path) -> None:
    code = (
        "try: torch.zeros(1, device='npu')\n"
        "except RuntimeError as error: print(json.dumps('device type' in str(error)))"
    )
    assert ask(nodes, code) is True


def test_whole_objects_are_loaded_as_by_old_torch(nodes: Path, tmp_path: Path) -> None:
    code = (
        "import torch_npu.contrib.transfer_to_npu, argparse\n"
        f"torch.save(argparse.Namespace(a=3), '{tmp_path}/x.pt')\n"
        f"print(json.dumps(torch.load('{tmp_path}/x.pt', map_location='cuda').a))"
    )
    assert ask(nodes, code) == 3


def test_streams_events_and_random_states(nodes: Path) -> None:
    code = (
        "import torch_npu.contrib.transfer_to_npu\n"
        "first, last = torch.cuda.Event(enable_timing=True), torch.npu.Event()\n"
        "first.record()\n"
        "with torch.cuda.stream(torch.cuda.Stream()): last.record(torch.cuda.current_stream())\n"
        "state = torch.cuda.get_rng_state(); a = torch.rand(2)\n"
        "torch.cuda.default_generators[3].set_state(state); b = torch.rand(2)\n"
        "torch.cuda.random.set_rng_state(state); c = torch.rand(2)\n"
        "assert torch.equal(torch.cuda.random.get_rng_state(device='cuda'), torch.get_rng_state())\n"
        "called = []; torch.cuda._lazy_call(lambda: called.append(1))\n"
        "print(json.dumps([first.elapsed_time(last) >= 0, torch.equal(a, b), torch.equal(a, c), called,"
        " torch.npu.memory_stats()['num_alloc_retries']]))"
    )
    assert ask(nodes, code) == [True, True, True, [1], 0]


def test_extensions_are_emulated_refused_or_left_to_torch(nodes: Path) -> None:
    code = (
        "import torch_npu.contrib.transfer_to_npu\n"
        "from torch.utils.cpp_extension import load\n"
        "rope = load(name='npu_rotary_position_embedding', sources=['x/ops/csrc/cann/rope.cpp'])\n"
        "ones = torch.ones(1, 1, 1, 2)\n"
        "answer = [rope.npu_rotary_position_embedding(ones, ones * 0, ones, 0).flatten().tolist()]\n"
        "try: load(name='gmm', sources=['x/ops/csrc/cann/gmm.cpp'])\n"
        "except NotImplementedError as error: answer.append(str(error))\n"
        "print(json.dumps(answer))"
    )
    turned, refusal = ask(nodes, code)
    assert turned == [-1.0, 1.0]
    assert "gmm is compiled for an NPU" in refusal


def test_what_is_missing_is_named(nodes: Path) -> None:
    code = (
        "import acl, apex.optimizers, torchair.ge\n"
        "answer = [hasattr(torch_npu, 'npu_grouped_matmul'), apex.optimizers.FusedAdam.__name__]\n"
        "try: torch_npu.npu_grouped_matmul\n"
        "except AttributeError as error: answer.append(str(error))\n"
        "print(json.dumps(answer))"
    )
    found, name, message = ask(nodes, code)
    assert (found, name) == (False, "AdamW")
    assert message == "torch_npu.npu_grouped_matmul: the lab's CPU stand-in for torch_npu does not have it"
