# SPDX-License-Identifier: GPL-3.0-or-later
"""wheel_mirror: the real pip, with a directory of wheels made here in place of an index."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.host import Completed

from tests.conftest import RunModule, ScriptedHost
from tests.unit.mirror.conftest import git

MODULE = "wheel_mirror"


def wheel(folder: Path, name: str, version: str = "1.0", tag: str = "py3-none-any", needs: tuple[str, ...] = ()) -> str:
    """Write a wheel that has nothing but its metadata."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {need}\n" for need in needs
    )
    file = f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(folder / file, "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


def sdist(folder: Path, name: str) -> None:
    """Write a source package that is pure Python and has no wheel. It builds with what is installed: no index is needed."""
    backend = (
        "import zipfile\n"
        "def build_wheel(place, config_settings=None, metadata_directory=None):\n"
        f"    file = '{name}-2.0-py3-none-any.whl'\n"
        "    with zipfile.ZipFile(f'{place}/{file}', 'w') as archive:\n"
        f"        info = '{name}-2.0.dist-info'\n"
        f"        archive.writestr(f'{{info}}/METADATA', 'Metadata-Version: 2.1\\nName: {name}\\nVersion: 2.0\\nRequires-Dist: alpha\\n')\n"
        "        archive.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "        archive.writestr(f'{info}/RECORD', '')\n"
        "    return file\n"
    )
    members = {
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
        "backend.py": backend,
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n",
    }
    with tarfile.open(folder / f"{name}-2.0.tar.gz", "w:gz") as archive:
        for path, text in members.items():
            info = tarfile.TarInfo(f"{name}-2.0/{path}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    wheel(folder, "alpha", needs=("beta>=1",))
    wheel(folder, "alpha", "0.9")
    for tag in (
        "cp38-cp38-manylinux_2_17_aarch64",
        "cp38-cp38-manylinux_2_17_x86_64",
        "cp311-cp311-manylinux_2_17_aarch64",
    ):
        wheel(folder, "beta", "1.2", tag)
    wheel(folder, "gamma", "3.0", "cp311-cp311-manylinux_2_17_aarch64")
    return folder


@pytest.fixture
def params(tmp_path: Path, index: Path) -> dict[str, Any]:
    return {
        "directory": str(tmp_path / "wheels"),
        "record": str(tmp_path / "mirror.json"),
        "requirements": ["alpha"],
        "python": "3.8",
        "find_links": [str(index)],
        "no_index": True,
        "pip": [sys.executable, "-m", "pip"],
    }


def held(params: dict[str, Any]) -> list[str]:
    return sorted(path.name for path in Path(params["directory"]).iterdir())


BETA = "beta-1.2-cp38-cp38-manylinux_2_17_aarch64.whl"


def test_four_ways(run_library: RunModule, params: dict[str, Any], index: Path) -> None:
    predicted = run_library(MODULE, params, check_mode=True)
    assert (predicted.changed, predicted["found"], predicted["missing"]) == (True, "absent", [])
    assert not Path(params["directory"]).exists()
    first = run_library(MODULE, params)
    assert first.changed, first.data
    assert first["diff"] == predicted["diff"]
    assert held(params) == ["alpha-1.0-py3-none-any.whl", BETA], "with what it needs, for that Python and architecture"
    index.rename(index.with_name("gone"))
    assert not run_library(MODULE, params).changed
    assert not run_library(MODULE, params, check_mode=True).changed


def test_the_other_architecture(run_library: RunModule, params: dict[str, Any]) -> None:
    run_library(MODULE, {**params, "architecture": "x86_64"})
    assert held(params) == ["alpha-1.0-py3-none-any.whl", "beta-1.2-cp38-cp38-manylinux_2_17_x86_64.whl"]


def test_what_cannot_be_had_is_named_and_hides_nothing(
    run_library: RunModule, params: dict[str, Any], index: Path
) -> None:
    sdist(index, "delta")
    asked = ["alpha<1", "delta", "epsilon==7", "gamma", "beta"]
    result = run_library(MODULE, {**params, "requirements": asked, "build": False})
    assert result.changed, result.data
    assert [item["requirement"] for item in result["missing"]] == ["delta", "epsilon==7", "gamma"]
    assert "epsilon==7" in result["missing"][1]["reason"]
    assert held(params) == ["alpha-0.9-py3-none-any.whl", BETA]
    again = run_library(MODULE, {**params, "requirements": asked, "build": False})
    assert (again.changed, again["missing"]) == (False, result["missing"])


def test_a_pure_package_without_a_wheel_is_built_with_what_it_needs(
    run_library: RunModule, params: dict[str, Any], index: Path
) -> None:
    sdist(index, "delta")
    result = run_library(MODULE, {**params, "requirements": ["delta", "gamma"]})
    assert [item["requirement"] for item in result["missing"]] == ["gamma"]
    assert result["made_with"]["built"] == ["delta-2.0-py3-none-any.whl"]
    assert held(params) == ["alpha-1.0-py3-none-any.whl", BETA, "delta-2.0-py3-none-any.whl"]


def test_requirements_of_the_pinned_sources(
    run_library: RunModule, params: dict[str, Any], index: Path, origin: Path, pinned: str, tmp_path: Path
) -> None:
    (origin / "requirements.txt").write_text("# what it needs\nalpha<1  # for a reason\n\n--extra-index-url x\nbeta\n")
    git("commit", "--quiet", "-am", "needs", cwd=origin)
    commit = git("rev-parse", "HEAD", cwd=origin)
    git("clone", "--quiet", "--bare", str(origin), str(tmp_path / "llm.git"), cwd=origin)
    sources = [{"repository": str(tmp_path / "llm.git"), "commit": commit}]
    result = run_library(MODULE, {**params, "requirements": [], "sources": sources})
    assert result.changed, result.data
    assert result["diff"]["after"]["inputs"]["requirements"] == ["alpha<1", "beta"]
    absent = run_library(MODULE, {**params, "sources": [{**sources[0], "commit": "0" * 40}]})
    assert "mirror-sources.yml" in absent["remedy"]
    early = [{"repository": str(tmp_path / "not-yet.git"), "commit": commit}]
    assert run_library(MODULE, {**params, "sources": early}, check_mode=True).changed


def test_an_interrupted_run_is_taken_up(run_library: RunModule, params: dict[str, Any], index: Path) -> None:
    """What had arrived counts, even where the index has lost it meanwhile."""
    partial = Path(f"{params['directory']}.partial")
    partial.mkdir()
    (index / BETA).rename(partial / BETA)
    assert run_library(MODULE, params).changed
    assert held(params) == ["alpha-1.0-py3-none-any.whl", BETA]
    assert not partial.exists()


def test_wheels_of_other_requirements_go(run_library: RunModule, params: dict[str, Any]) -> None:
    run_library(MODULE, params)
    second = run_library(MODULE, {**params, "requirements": ["alpha<1"]})
    assert second["diff"]["before"]["inputs"]["requirements"] == ["alpha"]
    assert held(params) == ["alpha-0.9-py3-none-any.whl"]


def test_an_index_that_does_not_answer_is_no_answer(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any]
) -> None:
    """pip then says, too, that it found no such package; that must not be recorded."""
    said = (
        "WARNING: Retrying (Retry(total=0)) after connection broken\nERROR: No matching distribution found for alpha\n"
    )
    scripted_host.run = lambda argv, **_: Completed(argv, 1, "", said)  # type: ignore[method-assign, assignment]
    failed = run_library(MODULE, params, scripted_host)
    assert failed.failed
    assert "https_proxy" in failed["remedy"]
    assert not Path(params["record"]).exists()


def test_the_record_has_every_wheel(run_library: RunModule, params: dict[str, Any]) -> None:
    run_library(MODULE, params)
    entry = json.loads(Path(params["record"]).read_text())["artifacts"]["wheels"]
    assert sorted(entry["files"]) == entry["made_with"]["wheels"] == held(params)
    assert all(len(facts["sha256"]) == 64 for facts in entry["files"].values())
