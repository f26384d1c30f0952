# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image an archive holds is read without Docker, and a damaged archive is recognised."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet import image_archive
from ansible.module_utils.ascend_fleet.errors import VerificationError
from ansible.module_utils.ascend_fleet.image_archive import read_archive

from tests.conftest import RunModule
from tests.unit.modules.archives import REFERENCE, make_archive


def test_ids_and_names_are_read(tmp_path: Path, run_library: RunModule) -> None:
    archive = tmp_path / "image.tar"
    ids = make_archive(archive)
    result = run_library("image_archive_info", {"archive": str(archive), "reference": REFERENCE})
    assert result["ids"] == ids
    assert result["references"] == [REFERENCE]
    assert result["size"] == archive.stat().st_size
    assert not result.changed
    assert [path.name for path in tmp_path.iterdir()] == ["image.tar"], "a plain tar needs no cache"


def test_an_archive_of_the_containerd_store_has_both_ids(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    digest = "sha256:" + "ab" * 32
    ids = make_archive(archive, index=[digest])
    assert list(read_archive(str(archive))[0].ids) == [*ids, digest]


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_a_cut_off_archive_fails(tmp_path: Path, run_library: RunModule, kept: float) -> None:
    archive = tmp_path / "image.tar"
    make_archive(archive)
    os.truncate(archive, int(archive.stat().st_size * kept))
    result = run_library("image_archive_info", {"archive": str(archive), "reference": REFERENCE})
    assert result.failed
    assert str(archive) in result["msg"]
    assert "Copy it again" in result["remedy"]


@pytest.mark.parametrize("kept", [0.1, 0.6, 0.99])
def test_a_cut_off_compressed_archive_fails(tmp_path: Path, kept: float) -> None:
    archive = tmp_path / "image.tar.gz"
    make_archive(archive, mode="w:gz")
    os.truncate(archive, int(archive.stat().st_size * kept))
    with pytest.raises(VerificationError, match=r"image\.tar\.gz"):
        read_archive(str(archive))


@pytest.mark.parametrize("absent", ["0/layer.tar", "manifest.json"])
def test_a_missing_part_fails(tmp_path: Path, absent: str) -> None:
    archive = tmp_path / "image.tar"
    make_archive(archive, without=absent)
    with pytest.raises(VerificationError, match=absent):
        read_archive(str(archive))


def test_something_else_is_no_image_archive(tmp_path: Path) -> None:
    page = tmp_path / "image.tar"
    page.write_text("<html>please log in</html>" * 100)
    with pytest.raises(VerificationError, match="cannot be read"):
        read_archive(str(page))


def test_one_of_several_is_chosen_by_name_only(tmp_path: Path, run_library: RunModule) -> None:
    archive = tmp_path / "images.tar"
    ids = make_archive(archive, names=[["other:1"], [REFERENCE, "alias:2"]])
    params = {"archive": str(archive), "reference": "alias:2"}
    assert run_library("image_archive_info", params)["ids"] == ids[1:]
    result = run_library("image_archive_info", {**params, "reference": "alias:3"})
    assert result.failed
    assert "other:1" in result["msg"]


def test_a_compressed_archive_is_read_once(
    tmp_path: Path, run_library: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "image.tar.gz"
    ids = make_archive(archive, mode="w:gz")
    params = {"archive": str(archive), "reference": REFERENCE}
    assert run_library("image_archive_info", params, check_mode=True)["ids"] == ids
    assert len(list(tmp_path.iterdir())) == 1, "check mode writes no cache"
    assert run_library("image_archive_info", params)["ids"] == ids
    monkeypatch.setattr(image_archive, "read_archive", lambda path: pytest.fail("must not be read again"))
    assert run_library("image_archive_info", params)["ids"] == ids


def test_a_replaced_compressed_archive_is_read_again(tmp_path: Path, run_library: RunModule) -> None:
    archive = tmp_path / "image.tar.gz"
    params = {"archive": str(archive), "reference": "b:1"}
    make_archive(archive, names=[["a:1"]], mode="w:gz")
    run_library("image_archive_info", params)
    ids = make_archive(archive, names=[["a:1"], ["b:1"]], mode="w:gz")
    assert run_library("image_archive_info", params)["ids"] == ids[1:]


def test_an_absent_archive_names_the_remedy(tmp_path: Path, run_library: RunModule) -> None:
    result = run_library("image_archive_info", {"archive": str(tmp_path / "none.tar"), "reference": REFERENCE})
    assert result.failed
    assert "ascend_staging_image_archive" in result["remedy"]
