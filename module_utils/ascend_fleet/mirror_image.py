# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of the training image: pulled for the servers' platform, saved, and read back before it gets its name."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Optional

from .docker import Engine, Image
from .errors import FleetError, InputError, VerificationError
from .host import Host
from .image_archive import choose, read_archive
from .mirror_record import Mirrored, Record, converge_mirrored, partial
from .outcome import Outcome
from .receipt import Verdict

# How Docker calls the architectures that a release row names.
PLATFORMS = {"aarch64": "linux/arm64", "x86_64": "linux/amd64"}


class ArchivedImageMirror:
    """One image and its archive."""

    def __init__(self, host: Host, params: Mapping[str, Any]) -> None:
        self.host = host
        self.engine = Engine(host, params["docker_cli"])
        self.reference: str = params["reference"]
        self.archive: str = params["archive"]
        self.artifact = Mirrored(Record(host, params["record"]), *os.path.split(params["archive"]))
        self.digest: str = params["digest"]
        self.pull: bool = params["pull"]
        self.platform: str = PLATFORMS.get(params["architecture"], params["architecture"])

    def build(self, verdict: Verdict) -> Dict[str, Any]:
        """Have the archive; return the image's id and where it came from."""
        image = self._present()
        pulled = image is None
        image = image or self._pulled()
        saved = not self._holds(image)
        if saved:
            self._save(image)
        return {
            "reference": self.reference,
            "id": image.id,
            "digests": list(image.digests),
            "platform": image.platform,
            "image_bytes": image.size,
            "pulled": pulled,
            "saved": saved,
        }

    def _present(self) -> Optional[Image]:
        """Return the image that this machine has, where it is the right one: of the platform, and with the digest that is asked for."""
        image = self.engine.image(self.reference)
        if image is None or image.platform != self.platform:
            return None
        return image if not self.digest or self._pinned() in image.digests else None

    def _pinned(self) -> str:
        name = self.reference.rsplit("/", 1)
        base = name[-1].split(":", 1)[0]
        return f"{'/'.join([*name[:-1], base])}@{self.digest}"

    def _pulled(self) -> Image:
        if not self.pull:
            raise InputError(
                f"Image {self.reference} for {self.platform} is not on this machine, and it is not to be pulled.",
                "Load it (docker load) or let it be pulled.",
            )
        wanted = self._pinned() if self.digest else self.reference
        with self.artifact.followed("pulling"):  # Docker does not say how far it is
            self.engine.pull(wanted, self.platform)
        image = self.engine.image(wanted)
        if image is None or image.platform != self.platform:
            raise VerificationError(
                f"{wanted} was pulled for {self.platform}, and this machine has it for {image.platform if image else 'nothing'}.",
                "Check run_plan_architecture and the tag that the release row has for it.",
            )
        if self.digest:
            self.engine.tag(image.id, self.reference)
        return image

    def _holds(self, image: Image) -> bool:
        """Say whether the archive that is there is whole and holds this image."""
        if not self.host.is_file(self.archive):
            return False
        try:
            return image.id in choose(read_archive(self.archive), self.reference, self.archive).ids
        except FleetError:
            return False

    def _save(self, image: Image) -> None:
        target = partial(self.archive)
        self.host.make_dirs(os.path.dirname(target))
        self.host.remove(target)
        free = self.host.free_bytes(target)
        if free < image.size:
            raise FleetError(
                f"{os.path.dirname(target)} has {free} bytes free; the archive of {self.reference} needs about {image.size}.",
                "Make room, or give another mirror_directory.",
            )
        with self.artifact.followed("saving", image.size):
            self.engine.save(self.reference, target)
        held: List[str] = list(choose(read_archive(target), self.reference, target).ids)
        if image.id not in held:
            raise VerificationError(
                f"The archive that was saved of {self.reference} holds {', '.join(held)}, not {image.id}.",
                "Look whether something else on this machine tags images at the same time, and run again.",
            )
        self.host.rename(target, self.archive)


def mirror_image(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Action of module image_archive; `params` are its options."""
    if params["digest"] and not params["digest"].startswith("sha256:"):
        raise InputError(f"Digest {params['digest']!r} does not start with sha256:.", "Give the image's digest.")
    mirror = ArchivedImageMirror(host, params)
    inputs = {"reference": mirror.reference, "platform": mirror.platform, "digest": mirror.digest}
    return converge_mirrored(mirror.artifact, inputs, mirror.build, params["verify"], check_mode)
