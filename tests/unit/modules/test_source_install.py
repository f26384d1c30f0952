# SPDX-License-Identifier: GPL-3.0-or-later
"""The sources made usable: a real editable install into a real virtual environment, megatron laid in, imports proven."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ModuleResult, RunModule
from tests.unit.modules.local_engine import LocalEngine

COMMITS = {"MindSpeed-LLM": "1" * 40, "MindSpeed": "2" * 40, "Megatron-LM": "3" * 40}
# Like upstream's: without CI_BUILD it wants to fetch its requirements from the internet.
SETUP = """
import os
import setuptools

if os.getenv("CI_BUILD", "0") != "1":
    raise SystemExit("would call pip to fetch the requirements")
setuptools.setup(name="mindspeed", version="0.8.0", packages=setuptools.find_packages())
"""
TREES = {
    "MindSpeed/setup.py": SETUP,
    "MindSpeed/mindspeed/__init__.py": "",
    "Megatron-LM/megatron/core/__init__.py": "__version__ = '0.8.0'\n",
    "Megatron-LM/megatron/training/__init__.py": "x = 1\n",
    # As upstream's it reads the command line when it is imported.
    "MindSpeed-LLM/mindspeed_llm/__init__.py": (
        "import argparse, mindspeed\nfrom megatron.core import __version__\nargparse.ArgumentParser().parse_args()\n"
    ),
}


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image brings: an environment with pip and its helpers, and stand-ins of the large packages."""
    folder = tmp_path_factory.mktemp("image") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in ("pip", "setuptools", "wheel", "packaging"):
        for file in metadata.distribution(name).files or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), packages / file)
    for name, version in (("torch", "2.1.0"), ("torch_npu", "2.1.0.post12"), ("transformers", "4.43.2")):
        write(packages, {f"{name}/__init__.py": f"__version__ = '{version}'\nprint('{name} says hello')\n"})
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(packages)], check=True)  # once, and not in every copy
    return folder


@dataclass
class Site:
    """The trees of one server and the environment in its container."""

    root: Path
    image: Path
    engine: LocalEngine
    run_library: RunModule

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def laid_in(self) -> Path:
        return self.source / "MindSpeed-LLM" / "megatron"

    def new_container(self, identity: str) -> None:
        """What was installed in a container is gone when it is created anew."""
        shutil.rmtree(self.root / "venv", ignore_errors=True)
        shutil.copytree(self.image, self.root / "venv", symlinks=True, copy_function=os.link)
        self.engine.run(identity)

    def run(self, check_mode: bool = False, **more: Any) -> ModuleResult:
        params = {
            "root": str(self.source),
            "commits": COMMITS,
            "container": self.engine.name,
            "docker_cli": self.engine.cli,
            "python": str(self.root / "venv" / "bin" / "python"),
            **more,
        }
        return self.run_library("source_install", params, check_mode=check_mode)

    def receipt(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.source / "receipt.json").read_text())
        return found

    def saved(self) -> list[Path]:
        return sorted((self.source / ".saved").iterdir()) if (self.source / ".saved").is_dir() else []


@pytest.fixture
def site(tmp_path: Path, run_library: RunModule, image: Path) -> Site:
    made = Site(tmp_path, image, LocalEngine(tmp_path / "engine"), run_library)
    write(made.source, TREES)
    made.new_container("first")
    return made


def test_the_first_run_makes_everything_and_leaves_a_receipt(site: Site) -> None:
    result = site.run()
    assert not result.failed, result["msg"]
    assert result["actions"] == [
        "lay MindSpeed-LLM/megatron in (absent)",
        "install MindSpeed in the container (no receipt of an earlier one)",
        "import every package in the container",
    ]
    assert result["versions"]["torch_npu"] == "2.1.0.post12"
    assert result["versions"]["megatron.core"] == "0.8.0"
    assert result["versions"]["mindspeed"] == "0.8.0"
    receipt = site.receipt()
    assert receipt["stage"] == "source"
    assert receipt["inputs"] == {"commits": COMMITS}
    assert receipt["made_with"]["container"] == "first"
    assert "MindSpeed-LLM/megatron/core/__init__.py" in receipt["outputs"]
    assert result["diff"]["after"]["todo"] == []


def test_the_second_run_is_one_look(site: Site) -> None:
    site.run()
    site.engine.starts()
    result = site.run()
    assert not result.changed
    assert "diff" not in result.data
    assert result["versions"]["transformers"] == "4.43.2"
    assert site.engine.starts() == 1


def test_check_mode_predicts_and_touches_nothing(site: Site) -> None:
    result = site.run(check_mode=True)
    assert result.changed
    assert len(result["diff"]["before"]["todo"]) == 3
    assert not site.laid_in.exists()
    assert not (site.source / "receipt.json").exists()


def test_check_mode_predicts_on_a_bare_server(site: Site) -> None:
    shutil.rmtree(site.source)
    site.engine.remove()
    assert site.run(check_mode=True).changed
    result = site.run()
    assert result.failed
    assert "tag container" in result["remedy"]


def test_a_new_container_gets_the_install_and_nothing_else(site: Site) -> None:
    site.run()
    before = (site.laid_in / "core" / "__init__.py").stat().st_ino
    site.new_container("second")
    result = site.run()
    assert not result.failed, result["msg"]
    assert result["actions"] == [
        "install MindSpeed in the container (the container is another one)",
        "import every package in the container",
    ]
    assert (site.laid_in / "core" / "__init__.py").stat().st_ino == before
    assert site.receipt()["made_with"]["container"] == "second"
    assert not site.run().changed


def test_an_install_that_was_lost_is_repeated(site: Site) -> None:
    site.run()
    python = str(site.root / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "mindspeed"], check=True)
    result = site.run()
    assert not result.failed, result["msg"]
    assert "install MindSpeed" in result["actions"][0]
    assert "mindspeed" in result["actions"][0].split("(")[1]


def test_a_lost_receipt_is_made_again(site: Site) -> None:
    site.run()
    (site.source / "receipt.json").unlink()
    assert site.run().changed
    assert site.receipt()["inputs"] == {"commits": COMMITS}


@pytest.mark.parametrize("damage", ["edited", "missing", "foreign", "absent"])
def test_what_is_laid_in_is_compared_and_laid_in_again(site: Site, damage: str) -> None:
    site.run()
    core = site.laid_in / "core" / "__init__.py"
    if damage == "edited":
        core.write_text("__version__ = '0.6.0'\n")
    elif damage == "missing":
        core.unlink()
    elif damage == "foreign":
        (site.laid_in / "core" / "left_over.py").write_text("")
    else:
        shutil.rmtree(site.laid_in)
    result = site.run()
    assert not result.failed, result["msg"]
    assert result["actions"][0].startswith("lay MindSpeed-LLM/megatron in")
    assert "install" not in " ".join(result["actions"])
    assert core.read_text() == "__version__ = '0.8.0'\n"
    assert not (site.laid_in / "core" / "left_over.py").exists()
    kept = damage in ("edited", "foreign")
    assert len(site.saved()) == (1 if kept else 0), "only what somebody changed by hand is kept"
    assert [Path(path) for path in result["saved"]] == site.saved()
    assert not site.run().changed


def test_build_products_are_no_difference(site: Site) -> None:
    site.run()
    (site.laid_in / "core" / "__pycache__").mkdir(exist_ok=True)
    (site.laid_in / "core" / "__pycache__" / "x.cpython-38.pyc").write_text("")
    (site.laid_in / "core" / "helpers.cpython-38-aarch64-linux-gnu.so").write_text("")
    assert not site.run().changed


def test_megatron_that_a_user_laid_in_before_is_replaced_and_kept(site: Site) -> None:
    write(site.laid_in, {"core/__init__.py": "__version__ = '0.6.0'\n"})
    result = site.run()
    assert (site.laid_in / "core" / "__init__.py").read_text() == "__version__ = '0.8.0'\n"
    assert (Path(result["saved"][0]) / "core" / "__init__.py").read_text() == "__version__ = '0.6.0'\n"


def test_another_commit_of_megatron_is_laid_in_without_an_install(site: Site) -> None:
    site.run()
    write(site.source, {"Megatron-LM/megatron/core/__init__.py": "__version__ = '0.8.1'\n"})
    result = site.run(commits={**COMMITS, "Megatron-LM": "4" * 40})
    assert [action.split()[0] for action in result["actions"]] == ["lay", "import"]
    assert result["versions"]["megatron.core"] == "0.8.1"
    assert site.saved() == []
    assert result["diff"]["before"]["commits"]["Megatron-LM"] == "3" * 40
    assert result["diff"]["after"]["commits"]["Megatron-LM"] == "4" * 40


def test_another_commit_of_mindspeed_is_installed(site: Site) -> None:
    site.run()
    result = site.run(commits={**COMMITS, "MindSpeed": "5" * 40})
    assert result["actions"][0] == "install MindSpeed in the container (its commit is another one)"


def test_trees_that_do_not_fit_fail_and_leave_no_receipt(site: Site) -> None:
    write(site.source, {"MindSpeed-LLM/mindspeed_llm/__init__.py": "from mindspeed import something_newer\n"})
    result = site.run()
    assert result.failed
    assert "cannot import name 'something_newer'" in result["msg"]
    assert "release row" in result["remedy"]
    assert not (site.source / "receipt.json").exists()


def test_a_package_from_elsewhere_is_not_taken(site: Site) -> None:
    (packages,) = (site.root / "venv").glob("lib/python*/site-packages")
    write(packages, {"sitecustomize.py": f"import sys; sys.path.insert(0, {str(site.root / 'other')!r})\n"})
    write(site.root / "other", {"mindspeed/__init__.py": "__version__ = '9'\n"})
    result = site.run()
    assert result.failed
    assert "mindspeed is taken from" in result["msg"]


def test_content_imports_again_and_changes_nothing(site: Site) -> None:
    versions = site.run()["versions"]
    again = site.run(verify="content")
    assert (again.changed, again["versions"]) == (False, versions)
    (site.source / "MindSpeed" / "mindspeed" / "__init__.py").write_text("raise ImportError('broken since')\n")
    assert not site.run().failed, "by default nothing is imported where nothing has to be done"
    assert "broken since" in site.run(verify="content")["msg"]


def test_the_sources_of_a_running_job_stay_as_they_are(site: Site) -> None:
    site.run()
    (site.laid_in / "core" / "__init__.py").write_text("__version__ = 'mine'\n")
    site.engine.run("first", job="7 python supervise_training.py")
    refused = site.run()
    assert refused.failed
    assert "stop-training.yml" in refused["remedy"]
    assert (site.laid_in / "core" / "__init__.py").read_text() == "__version__ = 'mine'\n"


def test_an_absent_tree_names_the_tag(site: Site) -> None:
    shutil.rmtree(site.source / "MindSpeed")
    result = site.run()
    assert result.failed
    assert "MindSpeed is absent" in result["msg"]


def make_wheel(folder: Path, name: str) -> None:
    """Build a wheel the way pip does, without any network."""
    project = folder / f"{name}-project"
    write(
        project,
        {"setup.py": f"import setuptools\nsetuptools.setup(name={name!r}, version='1.0', py_modules=[{name!r}])\n"},
    )
    write(project, {f"{name}.py": "value = 7\n"})
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        + ["--wheel-dir", str(folder / "wheels"), str(project)],
        check=True,
    )


def test_requirements_are_installed_from_wheels(site: Site) -> None:
    make_wheel(site.root, "fleet_wanted")
    write(site.source, {"MindSpeed-LLM/requirements.txt": "fleet_wanted==1.0\n"})
    write(site.source, {"MindSpeed-LLM/mindspeed_llm/__init__.py": "import fleet_wanted\n"})
    assert site.run().failed, "the image does not have it"
    wheels = str(site.root / "wheels")
    result = site.run(wheels=wheels)
    assert not result.failed, result["msg"]
    assert "install the requirements from the wheels" in result["actions"]
    assert not site.run(wheels=wheels).changed


def test_a_requirement_without_a_wheel_names_the_variable(site: Site) -> None:
    make_wheel(site.root, "fleet_wanted")
    write(site.source, {"MindSpeed-LLM/requirements.txt": "fleet_other==1.0\n"})
    result = site.run(wheels=str(site.root / "wheels"))
    assert result.failed
    assert "fleet_other" in result["msg"]
    assert "mindspeed_source_wheels" in result["remedy"]


def test_a_failed_install_shows_the_line_that_says_why(site: Site) -> None:
    write(site.source, {"MindSpeed/setup.py": "raise RuntimeError('the compiler is too old')\n"})
    result = site.run()
    assert result.failed
    assert "the compiler is too old" in result["msg"]
    assert not (site.source / "receipt.json").exists()


def test_an_empty_directory_of_wheels_is_refused(site: Site) -> None:
    (site.root / "wheels").mkdir()
    assert "no wheels" in site.run(wheels=str(site.root / "wheels"))["msg"]
