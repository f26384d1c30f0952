# SPDX-License-Identifier: GPL-3.0-or-later
"""Role pretraining brings the shards that a resumed run loads and another host saved: a real play over hosts that are directories."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.unit.modules.training_site import write_archive

# Two stages of a pipeline, each on two hosts: a and c write, b and d only load. late has its shard from an earlier start already.
WRITES = {"a": ["mp_rank_00_000"], "b": [], "c": ["mp_rank_00_001"], "d": [], "late": []}
NEEDS = {name: ["mp_rank_00_001" if name in "cd" else "mp_rank_00_000"] for name in WRITES}
WEIGHTS = "model_optim_rng.pt"
RECAP = re.compile(r"^(\w+) +: ok=\d+ +changed=(\d+)", re.MULTILINE)
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact:
        __pretraining_found: {look: "{{ seen }}"}
    - ansible.builtin.include_role:
        name: pretraining
        tasks_from: bring.yml
"""


class Fleet:
    """Hosts of a run that failed at iteration 12 and saved iteration 10."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, shards in WRITES.items():
            (root / name).mkdir()
            for file in [f"{shard}/{file}" for shard in shards for file in (WEIGHTS, "distrib_optim.pt")]:
                write_archive(self.saved(name) / file)
        (root / "play.yml").write_text(PLAY)

    def saved(self, name: str) -> Path:
        return self.root / name / "run" / "f" / "checkpoints" / "iter_0000010"

    def look(self, rank: int, name: str, state: str) -> dict[str, Any]:
        there = {"10": WRITES[name]} if state == "failed" else {}
        return {
            "host": name,
            "node_rank": rank,
            "state": state,
            "fingerprint": "f",
            "inputs": {},
            "attempt": 1,
            "save": str(self.saved(name).parent),
            "needed": NEEDS[name],
            "writes": WRITES[name],
            "saved": there,
            "others": {"10": NEEDS[name]} if name == "late" and there else {},
        }

    def play(self, *options: str, state: str = "failed") -> tuple[dict[str, int], str]:
        """Run the play; returns (host -> tasks of the recap that changed something, output)."""
        hosts = {
            name: {"pretraining_work_root": str(self.root / name), "seen": self.look(rank, name, state)}
            for rank, name in enumerate(WRITES)
        }
        common = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ascend_verify": "stat",
            "pretraining_hosts": list(WRITES),
            "pretraining_verify": "stat",
            "artifact_transfer_cache_dir": str(self.root / "cache"),
        }
        inventory = self.root / "inventory.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": common}}))
        argv = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            str(inventory),
            str(self.root / "play.yml"),
        ]
        environment = {**os.environ, "ANSIBLE_CALLBACKS_ENABLED": "fleet_changes", "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            [*argv, *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        return {name: int(count) for name, count in RECAP.findall(done.stdout)}, done.stdout

    def brought(self) -> dict[str, list[str]]:
        """Return host -> files that came from other hosts, relative to its work root."""
        return {
            name: sorted(
                str(path.relative_to(self.root / name)) for path in (self.root / name).glob("resumed/**/current/*/*")
            )
            for name in WRITES
        }


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_only_what_a_host_lacks_travels_and_only_once(fleet: Fleet) -> None:
    predicted, _ = fleet.play("--check")
    assert predicted == {
        "a": 0,
        "b": 1,
        "c": 0,
        "d": 1,
        "late": 0,
    }
    assert not any((fleet.root / name / "resumed").exists() for name in WRITES)
    done, _ = fleet.play()
    assert done == {"a": 0, "b": 1, "c": 0, "d": 1, "late": 0}
    place = "resumed/f/iter_0000010/{}/current/{}/" + WEIGHTS
    assert fleet.brought() == {
        **{name: [] for name in WRITES},
        "b": [place.format("a", "mp_rank_00_000")],
        "d": [place.format("c", "mp_rank_00_001")],
    }
    for name, source in (("b", "a"), ("d", "c")):
        (file,) = fleet.brought()[name]
        original = fleet.saved(source) / NEEDS[name][0] / WEIGHTS
        assert (fleet.root / name / file).read_bytes() == original.read_bytes()
    again, _ = fleet.play()
    assert again == dict.fromkeys(WRITES, 0)


def test_an_ordinary_start_moves_nothing(fleet: Fleet) -> None:
    _, output = fleet.play(state="finished")
    assert "artifact_manifest" not in output
    assert not any(fleet.brought().values())
