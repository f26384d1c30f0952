# SPDX-License-Identifier: GPL-3.0-or-later
"""The training image on one server: there under the wanted name with the wanted id, or brought there from an archive or a registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

from .docker import Engine, Image
from .errors import FleetError, InputError, VerificationError
from .host import Host
from .image_archive import choose, read_archive
from .outcome import Outcome

ARCHIVE, REGISTRY = "archive", "registry"


@dataclass(frozen=True)
class Wanted:
    """Which image is wanted: its name here, and the ids or the registry digest that identify it."""

    reference: str
    ids: Sequence[str]
    pinned: str = ""  # repository@digest, with source registry

    def is_met_by(self, image: Optional[Image]) -> bool:
        """Say whether an image is the wanted one."""
        return image is not None and (image.id in self.ids or (bool(self.pinned) and self.pinned in image.digests))


def ensure_image(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Bring the wanted image to the server where its id is absent, and give it its name."""
    engine = Engine(host, params["docker_cli"])
    wanted = _wanted(host, params)
    named = engine.image(wanted.reference)
    present = named if wanted.is_met_by(named) else _by_identity(engine, wanted)
    state = "ok" if present is named and present else "untagged" if present else "absent"
    outcome = Outcome(
        changed=state != "ok", values={"found": state, "reference": wanted.reference, "ids": list(wanted.ids)}
    )
    outcome.values["image"] = _view(present)
    if state == "ok":
        return outcome
    outcome.before = {"image": wanted.reference, "id": named.id if named else None}
    outcome.after = {"image": wanted.reference, "id": _expected_id(present, wanted)}
    outcome.actions = _steps(params, wanted, state)
    if not check_mode:
        outcome.values["image"] = _view(_apply(engine, params, wanted, present))
        outcome.after["id"] = outcome.values["image"]["id"]
    return outcome


def _wanted(host: Host, params: Dict[str, Any]) -> Wanted:
    reference, ids = params["reference"], list(params["ids"])
    if params["source"] == REGISTRY:
        if not params["digest"].startswith("sha256:"):
            raise InputError(
                f"Image {reference} is to come from a registry, but its digest is {params['digest']!r}.",
                "Set training_container_image_digest to sha256:...; `docker buildx imagetools inspect` or the registry's page shows it.",
            )
        return Wanted(reference, ids, f"{_repository(reference)}@{params['digest']}")
    if not ids:
        if not params["archive"]:
            raise InputError("Neither ids nor archive says which image is wanted.", "Give one of them.")
        ids = list(choose(read_archive(params["archive"]), reference, params["archive"]).ids)
    return Wanted(reference, ids)


def _by_identity(engine: Engine, wanted: Wanted) -> Optional[Image]:
    for identity in [*wanted.ids, *([wanted.pinned] if wanted.pinned else [])]:
        image = engine.image(identity)
        if wanted.is_met_by(image):
            return image
    return None


def _apply(engine: Engine, params: Dict[str, Any], wanted: Wanted, present: Optional[Image]) -> Image:
    if present is None:
        present = _pull(engine, wanted) if params["source"] == REGISTRY else _load(engine, params["archive"], wanted)
    engine.tag(present.id, wanted.reference)
    final = engine.image(wanted.reference)
    if final is None or final.id != present.id:
        raise VerificationError(
            f"Image {present.id} was named {wanted.reference}, but that name gives {final.id if final else 'nothing'}.",
            "Look whether something else on this server loads images at the same time.",
        )
    return final


def _load(engine: Engine, archive: str, wanted: Wanted) -> Image:
    held = choose(read_archive(archive), wanted.reference, archive).ids
    if not set(held) & set(wanted.ids):
        raise VerificationError(
            f"Archive {archive} holds image {', '.join(held)}, but {', '.join(wanted.ids)} is wanted.",
            "Look whether the archive on the staging host was replaced during the run, and run again.",
        )
    engine.load(archive)
    image = _by_identity(engine, wanted)
    if image is None:
        raise VerificationError(
            f"{engine.cli} loaded {archive} without an error, but image {wanted.ids[0]} is not there.",
            "Look at the free space of the engine's directory and at its log, and run again.",
        )
    return image


def _pull(engine: Engine, wanted: Wanted) -> Image:
    engine.pull(wanted.pinned)
    image = engine.image(wanted.pinned)
    if image is None:
        raise FleetError(f"{engine.cli} pulled {wanted.pinned} without an error, but it is not there.", "Run again.")
    if wanted.ids and image.id not in wanted.ids:
        raise VerificationError(
            f"{wanted.pinned} is image {image.id}, but {', '.join(wanted.ids)} is wanted.",
            "Correct the digest or the id.",
        )
    return image


def _steps(params: Dict[str, Any], wanted: Wanted, state: str) -> List[str]:
    tag = f"name it {wanted.reference}"
    if state == "untagged":
        return [tag]
    if params["source"] == REGISTRY:
        return [f"pull {wanted.pinned}", tag]
    return [f"load image {wanted.ids[0]} from {params['archive'] or 'its archive'}", tag]


def _expected_id(present: Optional[Image], wanted: Wanted) -> Optional[str]:
    if present:
        return present.id
    return wanted.ids[0] if wanted.ids else None


def _repository(reference: str) -> str:
    """Return an image name without its tag; the colon of a registry's port is not a tag's."""
    base, _, last = reference.rpartition("/")
    return f"{base}/{last.partition(':')[0]}" if base else last.partition(":")[0]


def _view(image: Optional[Image]) -> Optional[Dict[str, Any]]:
    if image is None:
        return None
    return {"id": image.id, "tags": list(image.tags), "digests": list(image.digests), "size": image.size}
