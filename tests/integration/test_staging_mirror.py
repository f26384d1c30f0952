# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/mirror-*.yml against origins on this machine, with the example inventory: predicted, made, left alone, taken up."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.image_archive import read_archive

from tests.conftest import ROOT
from tests.runs import Run, run_playbook
from tests.unit.mirror.conftest import git, model_files, neutral_environment  # noqa: F401 - a fixture for all tests
from tests.unit.mirror.fake_hub import Hub
from tests.unit.mirror.test_wheel_mirror import wheel

NAMES = ("MindSpeed-LLM", "MindSpeed", "Megatron-LM")
IMAGE = "mindspeed-llm:mirror-test"


@pytest.fixture
def origins(tmp_path: Path) -> dict[str, Any]:
    """Three repositories, a hub and a directory of wheels, as the variables that lead there."""
    commits, urls = {}, {}
    for name in NAMES:
        place = tmp_path / "origins" / name
        place.mkdir(parents=True)
        git("init", "--quiet", cwd=place)
        (place / "requirements.txt").write_text("alpha\n" if name == "MindSpeed" else "alpha\nomega==9\n")
        git("add", ".", cwd=place)
        git("commit", "--quiet", "-m", "state", cwd=place)
        commits[name], urls[name] = git("rev-parse", "HEAD", cwd=place), f"file://{place}"
    index = tmp_path / "index"
    index.mkdir()
    wheel(index, "alpha")
    return {
        "run_plan_release_overrides": {"commits": commits, "image": {"name": IMAGE}},
        "staging_mirror_urls": urls,
        "staging_mirror_wheels_find_links": [str(index)],
        "staging_mirror_wheels_no_index": True,
        "staging_mirror_pip": [sys.executable, "-m", "pip"],
        "mirror_directory": str(tmp_path / "disk"),
    }


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub("Qwen/Qwen2.5-Coder-7B", model_files())
    yield made
    made.close()


@pytest.fixture
def run(tmp_path: Path, origins: dict[str, Any], hub: Hub) -> Any:
    def play(part: str, check: bool = False, **variables: Any) -> Run:
        return run_playbook(
            Path(tempfile.mkdtemp(dir=tmp_path)),
            f"playbooks/mirror-{part}.yml",
            ROOT / "inventory" / "prod",
            "--check --diff" if check else "",
            environment={"HF_ENDPOINT": hub.endpoint, "no_proxy": "127.0.0.1"},
            **{**origins, **variables},
        )

    return play


def changed(run: Run) -> int:
    assert run.rc == 0, run.output[-3000:]
    return sum(run.changed().values())


def told(run: Run) -> list[str]:
    return [line for _, result in run.results("show_text") for line in result["lines"]]


def artifacts(origins: dict[str, Any]) -> dict[str, Any]:
    found = json.loads(Path(origins["mirror_directory"], "mirror.json").read_text())["artifacts"]
    assert isinstance(found, dict)
    return found


def test_sources_weights_and_wheels(run: Any, origins: dict[str, Any], hub: Hub) -> None:
    disk = Path(origins["mirror_directory"])
    for part, count in (("sources", 1), ("weights", 1), ("wheels", 1)):
        before = sorted(disk.rglob("*")) if disk.exists() else []
        assert changed(run(part, check=True)) == count
        assert (sorted(disk.rglob("*")) if disk.exists() else []) == before, "predicting leaves nothing behind"
        assert changed(run(part)) == count
        assert changed(run(part)) == 0
    assert sorted(path.name for path in (disk / "git").iterdir()) == sorted(f"{name}.git" for name in NAMES)
    commits = origins["run_plan_release_overrides"]["commits"]
    for name in NAMES:
        assert git("cat-file", "-t", commits[name], cwd=disk / "git" / f"{name}.git") == "commit"
    model = disk / "models" / "Qwen2.5-Coder-7B"
    assert {path.name for path in model.iterdir()} == {
        "extra",
        *(set(model_files()) - {"pytorch_model.bin", "extra/notes.txt"}),
    }
    assert [path.name for path in (disk / "wheels").iterdir()] == ["alpha-1.0-py3-none-any.whl"]
    assert any("cannot be had: omega==9" in line for line in told(run("wheels")))
    found = artifacts(origins)
    assert set(found) == {*(f"git/{name}.git" for name in NAMES), "models/Qwen2.5-Coder-7B", "wheels"}
    assert found["git/MindSpeed.git"]["made_with"]["commit"] == commits["MindSpeed"]


def test_one_repository_that_fails_does_not_undo_the_others(run: Any, origins: dict[str, Any]) -> None:
    urls = origins["staging_mirror_urls"]
    broken = run("sources", staging_mirror_urls={**urls, "Megatron-LM": "file:///nowhere/Megatron-LM"})
    assert broken.rc != 0
    assert "/nowhere/Megatron-LM" in broken.problem("localhost")["what"]
    done = artifacts(origins)
    assert set(done) == {"git/MindSpeed-LLM.git", "git/MindSpeed.git"}
    assert changed(run("sources")) == 1
    later = artifacts(origins)
    assert len(later) == 3
    assert {name: later[name] for name in done} == done, "what was there was not touched"


@pytest.mark.parametrize("part", ["sources", "image"])
def test_a_release_that_is_not_there_is_named_with_those_that_are(run: Any, part: str) -> None:
    refused = run(part, mindspeed_release="2.0")
    assert refused.rc != 0
    problem = refused.problem("localhost")
    assert "There is no release 2.0. Those that exist: 1.0.0, " in problem["what"]
    assert "mindspeed_release" in problem["remedy"]


def arm_archive(path: Path) -> None:
    """Write an archive with an image for arm64 that any engine loads: a configuration and one layer."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as content:
        content.addfile(tarfile.TarInfo("file"))
    digest = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config = {"architecture": "arm64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest]}}
    text = json.dumps(config).encode()
    name = f"{hashlib.sha256(text).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [IMAGE], "Layers": ["0/layer.tar"]}]).encode()
    with tarfile.open(path, "w") as archive:
        for member, data in ((name, text), ("0/layer.tar", layer.getvalue()), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    """A small image for arm64 in this machine's engine, where it would be after a pull."""
    arm_archive(tmp_path / "pulled.tar")
    subprocess.run(["docker", "load", "--input", str(tmp_path / "pulled.tar")], check=True, capture_output=True)
    yield subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Id}}", IMAGE], check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["docker", "image", "rm", IMAGE], check=True, capture_output=True)


@pytest.mark.docker
def test_the_image(run: Any, origins: dict[str, Any], image: str) -> None:
    variables = {"staging_mirror_image_pull": False}
    archive = Path(origins["mirror_directory"], "images", "mindspeed-llm-2025.rc1-arm.tar")
    assert changed(run("image", check=True, **variables)) == 1
    assert not archive.exists()
    assert changed(run("image", **variables)) == 1
    (held,) = read_archive(str(archive))
    assert image in held.ids and IMAGE in held.references
    made = artifacts(origins)["images/mindspeed-llm-2025.rc1-arm.tar"]["made_with"]
    assert (made["id"], made["platform"]) == (image, "linux/arm64")
    assert changed(run("image", **variables)) == 0
    archive.write_bytes(archive.read_bytes()[:-2000])
    assert changed(run("image", **variables)) == 1
    assert read_archive(str(archive))
    refused = run("image", staging_mirror_architecture="x86_64", **variables)
    assert refused.rc != 0
    assert "linux/amd64" in refused.problem("localhost")["what"]
