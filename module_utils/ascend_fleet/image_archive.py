# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image archive (`docker save`, or an OCI layout) holds, read from its table of members without unpacking anything."""

from __future__ import annotations

import json
import os
import re
import tarfile
import zlib
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Set

from .errors import InputError, VerificationError
from .host import Host
from .outcome import Outcome

SMALL = 4 * 1024 * 1024  # bytes; manifests are far below this, layers are not read at all
_JSON_MEMBERS = ("manifest.json", "index.json")
_DIGEST = re.compile(r"([0-9a-f]{64})(?:\.json)?$")


@dataclass(frozen=True)
class ArchivedImage:
    """One image of an archive: the ids it can have once loaded, and its names.

    The classic store of Docker names an image by the digest of its configuration, the containerd store by that of its manifest.
    """

    ids: Sequence[str]
    references: Sequence[str]

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data for JSON."""
        return {"ids": list(self.ids), "references": list(self.references)}


def read_archive(path: str) -> List[ArchivedImage]:
    """Return the images of an archive; raises VerificationError where it is cut off or no image archive."""
    names: Set[str] = set()
    texts: Dict[str, str] = {}
    try:
        # "r:*" seeks over the layers of a plain tar: milliseconds whatever its size. A compressed one has to be read whole.
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                names.add(os.path.normpath(member.name))
                if member.name in _JSON_MEMBERS and member.size < SMALL:
                    stream = archive.extractfile(member)
                    texts[member.name] = stream.read().decode("utf-8") if stream else ""
            _read_to_end(archive)
    except (tarfile.TarError, EOFError, zlib.error, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, f"it cannot be read to its end ({error})") from error
    return _images(path, names, texts)


def _read_to_end(archive: tarfile.TarFile) -> None:
    """Read what follows the last member: only there does a compressed stream show that it is whole."""
    rest = archive.fileobj
    while rest is not None and rest.read(SMALL):
        pass


def choose(images: Sequence[ArchivedImage], reference: str, path: str) -> ArchivedImage:
    """Return the image that has the wanted name, or the only one there is."""
    named = [image for image in images if reference in image.references]
    if named:
        return named[0]
    if len(images) == 1:
        return images[0]
    held = ", ".join(name for image in images for name in image.references) or "images without a name"
    raise InputError(
        f"Archive {path} holds {len(images)} images and none is called {reference}: {held}.",
        "Set training_container_image to one of these names.",
    )


def image_archive_info(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Describe the wanted image of an archive. A cache beside a compressed archive spares reading it again."""
    path = params["archive"]
    found = host.stat(path)
    if found is None or not host.is_file(path):
        raise InputError(
            f"Image archive {path} is not there.",
            "Bring it to the staging host (docker save on a machine with internet), or correct ascend_staging_image_archive.",
        )
    stamp = {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
    if _is_plain_tar(path):
        images = read_archive(path)
    else:
        cache = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.contents.json")
        images = _cached(host, cache, stamp) or read_archive(path)
        if not check_mode:
            _remember(host, cache, stamp, images)
    image = choose(images, params["reference"], path)
    return Outcome(values={**image.as_dict(), "archive": path, "size": found.st_size})


def _is_plain_tar(path: str) -> bool:
    with open(path, "rb") as stream:
        return stream.read(262)[257:] == b"ustar"


def _images(path: str, names: Set[str], texts: Mapping[str, str]) -> List[ArchivedImage]:
    if "manifest.json" not in texts:
        raise _damaged(path, "it has no manifest.json: it is cut off, or not an archive made by `docker save`")
    try:
        entries = json.loads(texts["manifest.json"])
        manifests = _manifest_digests(json.loads(texts.get("index.json", "{}")))
        images = []
        for entry in entries:
            absent = [
                part for part in (entry["Config"], *(entry.get("Layers") or [])) if os.path.normpath(part) not in names
            ]
            if absent:
                raise _damaged(path, f"{len(absent)} of its parts are missing, for example {absent[0]}")
            config = _DIGEST.search(entry["Config"])
            ids = [f"sha256:{config.group(1)}"] if config else []
            images.append(ArchivedImage(ids + (manifests if len(entries) == 1 else []), entry.get("RepoTags") or []))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"its manifest.json is not what Docker writes ({error!r})") from error
    if not images:
        raise _damaged(path, "it holds no image")
    return images


def _manifest_digests(index: Mapping[str, Any]) -> List[str]:
    return [str(entry["digest"]) for entry in index.get("manifests", [])]


def _damaged(path: str, why: str) -> VerificationError:
    return VerificationError(
        f"Image archive {path} cannot be used: {why}.",
        "Copy it again from where it was saved and compare its size there.",
    )


def _cached(host: Host, cache: str, stamp: Mapping[str, int]) -> List[ArchivedImage]:
    """Return what an earlier look at the same archive found; nothing where there was none."""
    text = host.read_text(cache)
    try:
        data = json.loads(text) if text else {}
        if data.get("archive") != stamp:
            return []
        return [ArchivedImage(entry["ids"], entry["references"]) for entry in data["images"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _remember(host: Host, cache: str, stamp: Mapping[str, int], images: Sequence[ArchivedImage]) -> None:
    """Keep what was read, where the directory can be written; the archive may lie on a medium that cannot."""
    data = {"archive": stamp, "images": [image.as_dict() for image in images]}
    text = json.dumps(data, indent=1, sort_keys=True) + "\n"
    if os.access(os.path.dirname(cache), os.W_OK) and host.read_text(cache) != text:
        host.write_text(cache, text)
