# SPDX-License-Identifier: GPL-3.0-or-later
"""The bare repositories: the same commits everywhere, pins that are not the heads, and trees that install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from lab.upstream.build import REPOSITORIES, build_repositories, main
from tests.conftest import ROOT


def git(repository: Path, *arguments: str) -> str:
    command = ["git", f"--git-dir={repository}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    target = tmp_path_factory.mktemp("git")
    return target, build_repositories(target)


def test_commits_do_not_depend_on_the_git_configuration(
    built: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / "home"
    hooks = hostile / "templates" / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "post-update").write_text("#!/bin/sh\nexit 1\n")
    (hostile / ".gitconfig").write_text(
        "[core]\n autocrlf = true\n[commit]\n gpgsign = true\n[user]\n name = Somebody\n"
        f"[init]\n defaultBranch = other\n templateDir = {hostile}/templates\n"
    )
    monkeypatch.setenv("HOME", str(hostile))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
    monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    assert build_repositories(tmp_path / "git") == built[1]
    assert not (tmp_path / "git" / "MindSpeed.git" / "hooks").exists()


def test_each_branch_has_moved_past_its_pin(built: tuple[Path, dict[str, str]]) -> None:
    for repository in REPOSITORIES:
        bare, pin = built[0] / f"{repository.name}.git", built[1][repository.name]
        assert git(bare, "symbolic-ref", "HEAD") == f"refs/heads/{repository.branch}"
        assert git(bare, "rev-parse", "HEAD~1") == pin
        assert git(bare, "rev-list", "--count", pin) == "2"
        assert git(bare, "diff", "--name-only", pin, "HEAD") == repository.changed_file
        git(bare, "fsck", "--strict")


def test_branch_names_are_upstreams() -> None:
    assert {repository.name: repository.branch for repository in REPOSITORIES} == {
        "MindSpeed-LLM": "2.0.0",
        "MindSpeed": "2.0.0_core_r0.8.0",
        "Megatron-LM": "core_r0.8.0",
    }


def test_pinned_tree_holds_the_sources_as_they_are_here(built: tuple[Path, dict[str, str]]) -> None:
    bare, pin = built[0] / "MindSpeed-LLM.git", built[1]["MindSpeed-LLM"]
    source = ROOT / "lab" / "upstream" / "MindSpeed-LLM" / "pretrain_gpt.py"
    assert git(bare, "show", f"{pin}:pretrain_gpt.py") == source.read_text(encoding="utf-8").strip()


def test_example_script_has_crlf_line_ends(built: tuple[Path, dict[str, str]]) -> None:
    bare, pin = built[0] / "MindSpeed-LLM.git", built[1]["MindSpeed-LLM"]
    name = "examples/mcore/qwen25_coder/pretrain_qwen25_coder_lab_ptd.sh"
    command = ["git", f"--git-dir={bare}", "show", f"{pin}:{name}"]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.split(b"\n")
    assert all(line.endswith(b"\r") for line in lines[:-1])
    assert git(bare, "ls-tree", pin, name).startswith("100755 ")


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("megatron/core/__init__.py", True),
        ("model_from_hf/x/config.json", True),
        ("model_weights/x/release/a.pt", True),
        ("logs/a.log", True),
        ("mindspeed_llm/__pycache__/a.pyc", True),
        ("ckpt/iter_0000001/a.pt", False),
        ("dataset/a.bin", False),
    ],
)
def test_ignored_paths_are_upstreams(
    built: tuple[Path, dict[str, str]], tmp_path: Path, path: str, ignored: bool
) -> None:
    tree = tmp_path / "tree"
    subprocess.run(["git", "clone", "--quiet", str(built[0] / "MindSpeed-LLM.git"), str(tree)], check=True)
    answer = subprocess.run(["git", "-C", str(tree), "check-ignore", "--quiet", path], check=False)
    assert (answer.returncode == 0) == ignored


def test_command_prints_the_pins(
    built: tuple[Path, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == built[1]


def test_trees_install_and_import_only_when_complete(built: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    for name, commit in built[1].items():
        subprocess.run(["git", "clone", "--quiet", str(built[0] / f"{name}.git"), str(tmp_path / name)], check=True)
        subprocess.run(["git", "-C", str(tmp_path / name), "checkout", "--quiet", commit], check=True)
    python = environment_over_ours(tmp_path / "venv")
    probe = ["-c", "import mindspeed_llm, megatron.core as core; print('imported', core.__version__)"]

    def run(*arguments: str, tree: str = "MindSpeed-LLM", home: bool = True) -> str:
        variables = {"PATH": os.environ["PATH"], "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        if home:
            variables["ASCEND_HOME_PATH"] = str(tmp_path)
        done = subprocess.run(
            [str(python), *arguments], cwd=tmp_path / tree, env=variables, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    assert "No module named 'mindspeed'" in run(*probe)
    install = ["-m", "pip", "install", "-e", ".", "--no-build-isolation", "--no-deps", "--no-index"]
    assert "Successfully installed mindspeed-0.8.0" in run(*install, tree="MindSpeed")
    assert "No module named 'megatron'" in run(*probe)
    (tmp_path / "Megatron-LM" / "megatron").rename(tmp_path / "MindSpeed-LLM" / "megatron")
    assert "TypeError: expected str, bytes or os.PathLike object, not NoneType" in run(*probe, home=False)
    assert "imported 0.8.0" in run(*probe)
    subprocess.run(["git", "-C", str(tmp_path / "MindSpeed-LLM"), "checkout", "--quiet", "2.0.0"], check=True)
    assert "No module named 'megatron.core.packed_seq_params'" in run("pretrain_gpt.py")


def environment_over_ours(target: Path) -> Path:
    """Make a writable virtual environment that sees our packages, as the training container has one."""
    venv.create(target, with_pip=False, symlinks=True)
    site = target / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    packages = sysconfig.get_paths()["purelib"]
    (site / "lab.pth").write_text(f"{packages}\n{ROOT / 'lab' / 'torch_npu_cpu'}\n")
    return target / "bin" / "python"
