# SPDX-License-Identifier: GPL-3.0-or-later
"""Image archives as `docker save` writes them, small enough for a test."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REFERENCE = "mindspeed-llm:test"


def make_archive(
    path: Path,
    names: Sequence[Sequence[str]] = ((REFERENCE,),),
    mode: str = "w",
    without: str = "",
    index: Sequence[str] = (),
) -> list[str]:
    """Write an archive with one image for each entry of `names` and return their ids."""
    members: dict[str, bytes] = {}
    entries: list[dict[str, Any]] = []
    ids = []
    for number, tags in enumerate(names):
        config = json.dumps({"architecture": "arm64", "number": number}).encode()
        digest = hashlib.sha256(config).hexdigest()
        layer = f"{number}/layer.tar"
        members[layer] = bytes(range(256)) * 64
        members[f"{digest}.json"] = config
        entries.append({"Config": f"{digest}.json", "RepoTags": list(tags) or None, "Layers": [layer]})
        ids.append(f"sha256:{digest}")
    members["manifest.json"] = json.dumps(entries).encode()
    if index:
        members["index.json"] = json.dumps({"manifests": [{"digest": digest} for digest in index]}).encode()
    members.pop(without, None)
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return ids
