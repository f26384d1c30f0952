# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's traps in the source trees, on a lab server: all of them at once, and one run of the stage sets them right."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import WORK_ROOT, Playbook, Run, on_host

pytestmark = pytest.mark.docker

TRAPPED = "npu-2"
SOURCE = f"{WORK_ROOT}/source"
SCRIPT = "MindSpeed-LLM/examples/mcore/qwen25_coder/pretrain_qwen25_coder_lab_ptd.sh"
STALE = "MindSpeed-LLM/megatron/core/stale_of_another_branch.py"


def sums(host: str) -> dict[str, str]:
    """Path -> SHA-256 of the trees' files, without what git, Python and pip make."""
    made = "-name .git -o -name .saved -o -name __pycache__ -o -name '*.egg-info'"
    lines = on_host(
        host, f"cd {SOURCE} && find . \\( {made} \\) -prune -o -type f -not -name receipt.json -exec sha256sum {{}} +"
    )
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines.splitlines())}


@pytest.fixture(scope="module")
def right(finished: str) -> dict[str, str]:
    """The trees before anybody follows the page; what users laid beside them counts, too."""
    return sums(TRAPPED)


@pytest.fixture(scope="module")
def repaired(playbook: Playbook, right: dict[str, str]) -> Run:
    """The trees of one server as somebody leaves them who follows the page, and the run after that."""
    # `cp -r Megatron-LM/megatron MindSpeed-LLM/` before `git checkout core_r0.8.0`: files of another branch lie in.
    on_host(
        TRAPPED,
        f"echo 'raise SystemExit' > {SOURCE}/{STALE} && echo '# older' >> {SOURCE}/MindSpeed-LLM/megatron/core/__init__.py",
    )
    # The page's scripts end their lines with CRLF, in git itself; somebody converted one, which is a change of the tree.
    on_host(TRAPPED, f"sed -i 's/\\r$//' {SOURCE}/{SCRIPT}")
    # A zip download in place of a clone: the files without their history.
    on_host(TRAPPED, f"rm -rf {SOURCE}/MindSpeed/.git")
    return playbook("site.yml", tags="source", plan_output="")


def test_the_trees_are_as_before(repaired: Run, right: dict[str, str]) -> None:
    assert repaired.rc == 0, repaired.output[-4000:]
    assert set(repaired.changed()) == {TRAPPED}
    assert sums(TRAPPED) == right


def test_megatron_is_that_of_the_pinned_commit(repaired: Run) -> None:
    assert repaired.rc == 0
    assert on_host(TRAPPED, f"ls {SOURCE}/{STALE} 2>/dev/null || true") == ""
    compare = f"cd {SOURCE} && diff -r --exclude=__pycache__ Megatron-LM/megatron MindSpeed-LLM/megatron"
    assert on_host(TRAPPED, compare) == ""


def test_scripts_keep_the_line_ends_of_the_commit_and_none_is_run(repaired: Run) -> None:
    assert repaired.rc == 0
    assert int(on_host(TRAPPED, f"grep -c $'\\r' {SOURCE}/{SCRIPT}")) > 0
    path = SCRIPT.partition("/")[2]
    assert on_host(TRAPPED, f"grep -l a/{path} {SOURCE}/.saved/MindSpeed-LLM-*.patch").strip(), "the edit is not lost"


def test_a_download_becomes_a_checkout_and_is_kept(repaired: Run) -> None:
    assert repaired.rc == 0
    commit = on_host(TRAPPED, f"cat {SOURCE}/MindSpeed/.git/HEAD").strip()
    receipt = on_host(TRAPPED, f"grep -c {commit} {SOURCE}/receipt.json").strip()
    assert (len(commit), receipt) == (40, "1")
    assert on_host(TRAPPED, f"ls -d {SOURCE}/.saved/MindSpeed-2*/mindspeed").strip()
