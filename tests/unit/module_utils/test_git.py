# SPDX-License-Identifier: GPL-3.0-or-later
"""The answer to one look at several trees, taken apart."""

from __future__ import annotations

import pytest
from ansible.module_utils.ascend_fleet.checkout_save import is_build_product
from ansible.module_utils.ascend_fleet.errors import UnparsedError
from ansible.module_utils.ascend_fleet.git import Tree, parse_look

HEAD = "c721ce33e5995c2f2f8f91a433d726f2571053b7"
BLOB = "9daeafb9864cf43055ae93beb0afd6c7d144bfa4"


def records(*texts: str) -> str:
    return "".join(f"{text}\0" for text in texts)


def test_clean_dirty_unborn_and_no_repository() -> None:
    text = records(
        "@clean", f"# branch.oid {HEAD}", "# branch.head (detached)", "=0",
        "@dirty", f"# branch.oid {HEAD}", "# branch.head work",
        f"1 .M N... 100644 100644 100644 {BLOB} {BLOB} with a space.py",
        f"u UU N... 100644 100644 100644 100644 {BLOB} {BLOB} {BLOB} both.py", "=0",
        "@unborn", "# branch.oid (initial)", "# branch.head main", "=0",
        "@zip", "=128",
    )  # fmt: skip
    assert parse_look(text) == {
        "clean": Tree("clean", True, HEAD, []),
        "dirty": Tree("dirty", True, HEAD, ["both.py", "with a space.py"]),
        "unborn": Tree("unborn", True, None, []),
        "zip": Tree("zip", False),
    }


@pytest.mark.parametrize("status", ["127", "1", "137"])
def test_a_git_that_did_not_run_is_no_missing_repository(status: str) -> None:
    with pytest.raises(UnparsedError, match="tree ended with status"):
        parse_look(records("@tree", f"={status}"))


def test_an_answer_without_a_commit_is_not_taken_for_clean() -> None:
    with pytest.raises(UnparsedError, match="named no commit"):
        parse_look(records("@tree", "=0"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("mindspeed.egg-info/PKG-INFO", True),
        ("megatron/core/__pycache__/x.pyc", True),
        ("megatron/core/datasets/helpers.cpython-38.so", True),
        ("build/lib/x.py", True),
        ("rebuild/x.py", False),
        ("ckpt/model.pt", False),
        ("source.py", False),
    ],
)
def test_build_products_are_a_named_list(path: str, expected: bool) -> None:
    assert is_build_product(path) is expected
