# SPDX-License-Identifier: GPL-3.0-or-later
"""An image is there by its id: loaded or pulled where it is not, named where only the name is missing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunModule, ScriptedHost
from tests.unit.modules.archives import REFERENCE, make_archive

OTHER = "sha256:" + "1" * 64
DIGEST = "sha256:" + "d" * 64
NO_SUCH = "Error response from daemon: no such image: {0}: No such image: {0}"


def image(host: ScriptedHost, asked: str, identity: str = "", digests: tuple[str, ...] = ()) -> None:
    """Expect a look at an image; without an identity it is absent."""
    argv = ["docker", "image", "inspect", asked]
    if identity:
        data = [{"Id": identity, "RepoTags": [REFERENCE], "RepoDigests": list(digests), "Size": 12}]
        host.expect(argv, json.dumps(data))
    else:
        host.expect(argv, "[]\n", 1, NO_SUCH.format(asked))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "image.tar"


def params(archive: Path, **more: Any) -> dict[str, Any]:
    return {"reference": REFERENCE, "archive": str(archive), **more}


def test_an_absent_image_is_loaded(archive: Path, run_library: RunModule, scripted_host: ScriptedHost) -> None:
    (wanted,) = make_archive(archive)
    image(scripted_host, REFERENCE)
    image(scripted_host, wanted)
    scripted_host.expect(["docker", "load", "--quiet", "--input", str(archive)])
    image(scripted_host, wanted, wanted)
    scripted_host.expect(["docker", "tag", wanted, REFERENCE])
    image(scripted_host, REFERENCE, wanted)
    result = run_library("container_image", params(archive, ids=[wanted]), scripted_host)
    assert result.changed
    assert result["found"] == "absent"
    assert result["image"]["id"] == wanted
    assert result["diff"] == {
        "before": {"image": REFERENCE, "id": None},
        "after": {"image": REFERENCE, "id": wanted},
    }


def test_a_present_image_needs_no_archive(archive: Path, run_library: RunModule, scripted_host: ScriptedHost) -> None:
    image(scripted_host, REFERENCE, OTHER)
    result = run_library("container_image", params(archive, ids=[OTHER]), scripted_host)
    assert not result.changed
    assert result["found"] == "ok"
    assert "diff" not in result.data


def test_check_mode_predicts_the_load(archive: Path, run_library: RunModule, scripted_host: ScriptedHost) -> None:
    image(scripted_host, REFERENCE, OTHER)
    image(scripted_host, DIGEST)
    result = run_library("container_image", params(archive, ids=[DIGEST]), scripted_host, check_mode=True)
    assert result.changed
    assert result["diff"]["before"]["id"] == OTHER
    assert result["diff"]["after"]["id"] == DIGEST
    assert result["actions"][0].startswith(f"load image {DIGEST}")


def test_an_image_without_its_name_is_only_named(
    archive: Path, run_library: RunModule, scripted_host: ScriptedHost
) -> None:
    image(scripted_host, REFERENCE)
    image(scripted_host, OTHER, OTHER)
    scripted_host.expect(["docker", "tag", OTHER, REFERENCE])
    image(scripted_host, REFERENCE, OTHER)
    result = run_library("container_image", params(archive, ids=[OTHER]), scripted_host)
    assert result.changed
    assert result["found"] == "untagged"
    assert result["actions"] == [f"name it {REFERENCE}"]


def test_without_ids_the_archive_says_them(archive: Path, run_library: RunModule, scripted_host: ScriptedHost) -> None:
    (wanted,) = make_archive(archive)
    image(scripted_host, REFERENCE, wanted)
    assert not run_library("container_image", params(archive), scripted_host).changed


def test_a_cut_off_archive_is_not_given_to_docker(
    archive: Path, run_library: RunModule, scripted_host: ScriptedHost
) -> None:
    (wanted,) = make_archive(archive)
    os.truncate(archive, 9000)
    image(scripted_host, REFERENCE)
    image(scripted_host, wanted)
    result = run_library("container_image", params(archive, ids=[wanted]), scripted_host)
    assert result.failed
    assert "Copy it again" in result["remedy"]


def test_an_archive_with_another_image_is_refused(
    archive: Path, run_library: RunModule, scripted_host: ScriptedHost
) -> None:
    make_archive(archive)
    image(scripted_host, REFERENCE)
    image(scripted_host, OTHER)
    result = run_library("container_image", params(archive, ids=[OTHER]), scripted_host)
    assert result.failed
    assert OTHER in result["msg"]


def test_a_load_that_loads_nothing_fails(archive: Path, run_library: RunModule, scripted_host: ScriptedHost) -> None:
    (wanted,) = make_archive(archive)
    image(scripted_host, REFERENCE)
    image(scripted_host, wanted)
    scripted_host.expect(["docker", "load", "--quiet", "--input", str(archive)])
    image(scripted_host, wanted)
    result = run_library("container_image", params(archive, ids=[wanted]), scripted_host)
    assert result.failed
    assert "not there" in result["msg"]


def test_an_image_is_pulled_by_digest(archive: Path, run_library: RunModule, scripted_host: ScriptedHost) -> None:
    reference = "registry.example.com:5000/llm/mindspeed:1"
    pinned = f"registry.example.com:5000/llm/mindspeed@{DIGEST}"
    image(scripted_host, reference)
    image(scripted_host, pinned)
    scripted_host.expect(["docker", "pull", "--quiet", pinned])
    image(scripted_host, pinned, OTHER, (pinned,))
    scripted_host.expect(["docker", "tag", OTHER, reference])
    image(scripted_host, reference, OTHER, (pinned,))
    wanted = {"reference": reference, "source": "registry", "digest": DIGEST}
    assert run_library("container_image", wanted, scripted_host).changed
    image(scripted_host, reference, OTHER, (pinned,))
    assert not run_library("container_image", wanted, scripted_host).changed


def test_a_tag_alone_is_not_pulled(run_library: RunModule, scripted_host: ScriptedHost) -> None:
    result = run_library("container_image", {"reference": REFERENCE, "source": "registry"}, scripted_host)
    assert result.failed
    assert "training_container_image_digest" in result["remedy"]


def test_another_engine_that_leaves_the_algorithm_out(
    archive: Path, run_library: RunModule, scripted_host: ScriptedHost
) -> None:
    scripted_host.expect(
        ["podman", "image", "inspect", REFERENCE], json.dumps([{"Id": "1" * 64, "RepoTags": [REFERENCE]}])
    )
    result = run_library("container_image", params(archive, ids=[OTHER], docker_cli="podman"), scripted_host)
    assert not result.failed
    assert not result.changed
