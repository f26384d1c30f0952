# SPDX-License-Identifier: GPL-3.0-or-later
"""image_archive: pulled for the servers' platform, saved once, read back before it gets its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunModule, ScriptedHost
from tests.unit.modules.archives import REFERENCE, make_archive

MODULE = "image_archive"
IDS = ["sha256:" + "0" * 64]
DIGEST = "sha256:" + "d" * 64


@pytest.fixture
def params(tmp_path: Path) -> dict[str, Any]:
    archive, record = str(tmp_path / "images" / "llm.tar"), str(tmp_path / "mirror.json")
    return {"reference": REFERENCE, "archive": archive, "record": record}


@pytest.fixture
def image_id(tmp_path: Path) -> str:
    """Id of the image that make_archive puts into its archives."""
    return make_archive(tmp_path / "model.tar")[0]


def inspect(
    host: ScriptedHost, image_id: str | None, platform: str = "linux/arm64", reference: str = REFERENCE
) -> None:
    system, architecture = platform.split("/")
    facts = {"Id": image_id, "RepoTags": [REFERENCE], "RepoDigests": [f"mindspeed-llm@{DIGEST}"], "Size": 1000}
    argv = ["docker", "image", "inspect", reference]
    if image_id is None:
        return host.expect(argv, rc=1, stderr="Error response from daemon: No such image: x")
    return host.expect(argv, json.dumps([{**facts, "Os": system, "Architecture": architecture}]))


def save(host: ScriptedHost, archive: str, *names: str) -> None:
    target = f"{archive}.partial"
    host.expect(
        ["docker", "save", "--output", target, REFERENCE],
        effect=lambda: (make_archive(Path(target), (names or (REFERENCE,),)), None)[1],
    )


def test_four_ways(run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], image_id: str) -> None:
    predicted = run_library(MODULE, params, scripted_host, check_mode=True)
    assert (predicted.changed, predicted["found"]) == (True, "absent")
    assert not Path(params["archive"]).parent.exists()
    inspect(scripted_host, None)
    scripted_host.expect(["docker", "pull", "--quiet", "--platform", "linux/arm64", REFERENCE])
    inspect(scripted_host, image_id)
    save(scripted_host, params["archive"])
    first = run_library(MODULE, params, scripted_host)
    assert first.changed, first.data
    assert first["diff"] == predicted["diff"]
    assert first["made_with"] == {
        "reference": REFERENCE,
        "id": image_id,
        "digests": [f"mindspeed-llm@{DIGEST}"],
        "platform": "linux/arm64",
        "image_bytes": 1000,
        "pulled": True,
        "saved": True,
    }
    assert [path.name for path in Path(params["archive"]).parent.iterdir()] == ["llm.tar"]
    second = run_library(MODULE, params, scripted_host)
    assert not second.changed, "not even the engine is asked"
    assert not run_library(MODULE, params, scripted_host, check_mode=True).changed


def test_an_archive_with_the_right_id_is_kept(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], image_id: str
) -> None:
    Path(params["archive"]).parent.mkdir()
    make_archive(Path(params["archive"]))
    inode = Path(params["archive"]).stat().st_ino
    inspect(scripted_host, image_id)
    result = run_library(MODULE, params, scripted_host)
    assert (result["found"], result["made_with"]["saved"], result["made_with"]["pulled"]) == ("unsealed", False, False)
    assert Path(params["archive"]).stat().st_ino == inode


@pytest.mark.parametrize("broken", ["cut", "other"])
def test_an_archive_that_is_broken_or_of_another_image_is_saved_again(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], image_id: str, broken: str
) -> None:
    archive = Path(params["archive"])
    archive.parent.mkdir()
    make_archive(archive, (("other:1",), (REFERENCE,)))
    if broken == "cut":
        archive.write_bytes(archive.read_bytes()[:700])
    Path(f"{archive}.partial").write_text("what an interruption left")
    inspect(scripted_host, image_id)
    save(scripted_host, params["archive"])
    assert run_library(MODULE, params, scripted_host)["made_with"]["saved"] is True
    assert not Path(f"{archive}.partial").exists()


def test_an_image_of_another_platform_is_pulled_anew(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], image_id: str
) -> None:
    inspect(scripted_host, image_id, "linux/amd64")
    scripted_host.expect(["docker", "pull", "--quiet", "--platform", "linux/arm64", REFERENCE])
    inspect(scripted_host, image_id, "linux/amd64")
    failed = run_library(MODULE, params, scripted_host)
    assert failed.failed
    assert "linux/arm64" in failed["problem"] and "linux/amd64" in failed["problem"]
    assert not Path(params["record"]).exists()


def test_a_digest_is_pulled_by_itself_and_named(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], image_id: str
) -> None:
    pinned = f"mindspeed-llm@{DIGEST}"
    inspect(scripted_host, None)
    scripted_host.expect(["docker", "pull", "--quiet", "--platform", "linux/amd64", pinned])
    inspect(scripted_host, image_id, "linux/amd64", pinned)
    scripted_host.expect(["docker", "tag", image_id, REFERENCE])
    save(scripted_host, params["archive"])
    result = run_library(MODULE, {**params, "digest": DIGEST, "architecture": "x86_64"}, scripted_host)
    assert result.changed, result.data
    assert run_library(MODULE, {**params, "digest": "d" * 64}, scripted_host).failed


def test_an_archive_of_something_else_gets_no_name(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any]
) -> None:
    inspect(scripted_host, IDS[0])
    save(scripted_host, params["archive"])
    failed = run_library(MODULE, params, scripted_host)
    assert failed.failed
    assert IDS[0] in failed["problem"]
    assert not Path(params["archive"]).exists()


def test_no_pull_where_none_is_wanted(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any]
) -> None:
    inspect(scripted_host, None)
    failed = run_library(MODULE, {**params, "pull": False}, scripted_host)
    assert failed.failed
    assert "docker load" in failed["remedy"] or "Load it" in failed["remedy"]


def test_no_room(
    run_library: RunModule,
    scripted_host: ScriptedHost,
    params: dict[str, Any],
    image_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scripted_host, "free_bytes", lambda path: 999)
    inspect(scripted_host, image_id)
    failed = run_library(MODULE, params, scripted_host)
    assert failed.failed
    assert "999 bytes free" in failed["problem"]
