# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that was filled where there is internet, carried to the staging host: the servers are made from it and from nothing else."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import staging
from tests.conftest import ROOT
from tests.e2e.conftest import NPU_HOSTS, Playbook, on_host
from tests.unit.mirror.conftest import git
from tests.unit.mirror.test_wheel_mirror import wheel

pytestmark = pytest.mark.docker

CARRIED = "/srv/mirrored"
# Beside the site that the other tests look at.
WORK_ROOT, CONTAINER = "/data/mirrored", "LLM-mirrored"
PLATFORM = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[platform.machine()]


@pytest.fixture(scope="module")
def disk(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The variables with which mirror-all.yml finds origins on this machine, where the lab keeps its content."""
    place = tmp_path_factory.mktemp("mirror")
    pieces = {piece.name: piece.directory for piece in staging.pieces()}
    clone, index = place / "clone", place / "index"
    subprocess.run(["cp", "-r", str(pieces["model"] / "models" / "qwen2-lab"), str(clone)], check=True)
    git("init", "--quiet", cwd=clone)
    git("add", ".", cwd=clone)
    git("commit", "--quiet", "-m", "model", cwd=clone)
    index.mkdir()
    wheel(index, "fleetlabonly")
    archive = next((pieces["image"] / "images").glob("*.tar"))
    subprocess.run(["docker", "load", "--quiet", "--input", str(archive)], check=True, capture_output=True)
    names = [path.stem for path in (pieces["git"] / "git").glob("*.git")]
    commits = json.loads((ROOT / ".lab" / "commits.json").read_text())
    yield {
        # The inventory says the same of its own hosts alone, and the mirroring runs on this machine.
        "run_plan_release_overrides": {"commits": commits, "image": {"name": staging.TRAINING_IMAGE}},
        "mirror_directory": str(place / "disk"),
        "staging_mirror_urls": {name: f"file://{pieces['git']}/git/{name}.git" for name in names},
        "staging_mirror_image_pull": False,
        "staging_mirror_image_platform": PLATFORM,
        "staging_mirror_weights_clone": str(clone),
        "staging_mirror_wheels_sources": [],
        "staging_mirror_wheels_requirements": ["fleetlabonly"],
        "staging_mirror_wheels_find_links": [str(index)],
        "staging_mirror_wheels_no_index": True,
        "staging_mirror_architecture": "lab",
        "staging_mirror_pip": [sys.executable, "-m", "pip"],
    }
    subprocess.run(["docker", "image", "rm", staging.TRAINING_IMAGE], check=True, capture_output=True)
    on_host("staging-1", f"rm -rf {CARRIED}")
    for host in NPU_HOSTS:
        on_host(host, f"docker rm -f {CONTAINER} >/dev/null 2>&1; rm -rf {WORK_ROOT}")


def receipt(host: str, place: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(on_host(host, f"cat {WORK_ROOT}/{place}/receipt.json"))
    return found


def test_servers_are_made_from_what_was_mirrored(playbook: Playbook, disk: dict[str, Any]) -> None:
    predicted = playbook("playbooks/mirror-all.yml", cmdline="--check --diff", **disk)
    assert (predicted.rc, predicted.changed()) == (0, {"localhost": 4}), predicted.output[-3000:]
    made = playbook("playbooks/mirror-all.yml", **disk)
    assert (made.rc, made.changed()) == (0, {"localhost": 4}), made.output[-3000:]
    again = playbook("playbooks/mirror-all.yml", **disk)
    assert (again.rc, again.changed()) == (0, {})
    manifest = json.loads(Path(disk["mirror_directory"], "mirror.json").read_text())["artifacts"]
    carry(disk["mirror_directory"])
    site = playbook(
        "site.yml",
        tags="container,source,weights",
        ascend_work_root=WORK_ROOT,
        ascend_container_name=CONTAINER,
        plan_output="",
        ascend_staging_image_archive=f"{CARRIED}/images/mindspeed-llm-2025.rc1-lab.tar",
        ascend_staging_git_root=f"{CARRIED}/git",
        ascend_staging_model=f"{CARRIED}/models/qwen2-lab",
        ascend_staging_wheels=f"{CARRIED}/wheels",
    )
    assert site.rc == 0, site.output[-4000:]
    model = {path: facts["sha256"] for path, facts in manifest["models/qwen2-lab"]["files"].items()}
    assert {path: facts["sha256"] for path, facts in receipt("npu-1", "weights/current")["outputs"].items()} == model
    wheels = ["fleetlabonly-1.0-py3-none-any.whl"]
    for host in NPU_HOSTS:
        assert any(path.startswith("MindSpeed.git/objects") for path in receipt(host, "mirror/current")["outputs"])
        assert list(receipt(host, "wheels/current")["outputs"]) == wheels
        source = receipt(host, "source")["inputs"]
        assert source["wheels"] == wheels
        assert source["commits"]["MindSpeed"] == manifest["git/MindSpeed.git"]["made_with"]["commit"]
        image = on_host(host, f"docker container inspect --format '{{{{.Image}}}}' {CONTAINER}").strip()
        assert image == manifest["images/mindspeed-llm-2025.rc1-lab.tar"]["made_with"]["id"]


def carry(disk: str) -> None:
    """Bring the disk to the staging host, as it is."""
    on_host("staging-1", f"mkdir -p {CARRIED}")
    unpack = f"{sys.executable} -m lab ssh staging-1 -- tar -C {CARRIED} -x"
    argv = ["bash", "-c", f"set -o pipefail; tar -C {disk} -c git images models wheels mirror.json | {unpack}"]
    subprocess.run(argv, check=True, cwd=ROOT)
