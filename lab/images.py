# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's images: one Debian base (base.py), and on it a server, a staging host and the training image.

Every image is tagged with a hash of its recipe, so it is built once on a machine, whichever clone asks for it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab import base
from lab.shell import CLONE, attempt, long_work, run, stream

RECIPES = Path(__file__).parent / "images"


@dataclass(frozen=True)
class Overlay:
    """Files that a recipe takes from elsewhere in the clone: the tree `source` becomes `target` in the image."""

    source: Path
    target: str


OVERLAYS = {
    "server": (
        Overlay(RECIPES / "host" / "root", "/"),
        Overlay(CLONE / "lab" / "tools" / "driver", "/usr/local/Ascend/driver"),
        Overlay(CLONE / "lab" / "tools" / "sbin", "/usr/local/sbin"),
    ),
    "staging": (Overlay(RECIPES / "host" / "root", "/"),),
    "training": (Overlay(CLONE / "lab" / "torch_npu_cpu", "/opt/mindspeed/venv/lib/python3.11/site-packages"),),
    "rehearsal": (),
}
# Images that are built on another one; the others are built on the base.
PARENTS = {"rehearsal": "training"}


def tag(name: str) -> str:
    """The name of the image `name` (a directory of images/), by a hash of its whole recipe."""
    digest = hashlib.sha256(_parent_tag(name).encode())
    for target, source in recipe_files(name):
        digest.update(f"{target} {_mode(source):o} ".encode() + hashlib.sha256(source.read_bytes()).digest())
    return f"{base.REPOSITORY}/{name}:{digest.hexdigest()[:12]}"


def _parent_tag(name: str) -> str:
    return tag(PARENTS[name]) if name in PARENTS else base.tag()


def recipe_files(name: str) -> Iterator[tuple[str, Path]]:
    """Every file of a recipe as (path in the build directory, source), in a stable order."""
    trees = [Overlay(RECIPES / name / "root", "/"), *OVERLAYS[name]]
    yield "Dockerfile", RECIPES / name / "Dockerfile"
    for tree in trees:
        for path in sorted(tree.source.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"root{tree.target.rstrip('/')}/{path.relative_to(tree.source)}", path


def _mode(source: Path) -> int:
    """A file's mode in an image: git keeps of it only whether it can be executed, so its owner's bit decides."""
    return 0o755 if source.stat().st_mode & 0o100 else 0o644


def exists(image: str) -> bool:
    """True when the engine has the image."""
    return attempt(["docker", "image", "inspect", "--format", "{{.Id}}", image]).returncode == 0


def ensure(*names: str) -> dict[str, str]:
    """Build what is missing of the named images; return each one's tag."""
    tags = {name: tag(name) for name in names}
    missing = [name for name in names if not exists(tags[name])]
    if missing:
        base.ensure()
        ensure(*(PARENTS[name] for name in missing if name in PARENTS))
        with ThreadPoolExecutor(max_workers=3) as pool:
            list(pool.map(lambda name: _build(name, tags[name]), missing))
    return tags


def _build(name: str, image: str) -> None:
    with long_work(f"building the {name} image"), tempfile.TemporaryDirectory(prefix="lab-image-") as directory:
        for target, source in recipe_files(name):
            place = Path(directory) / target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
            place.chmod(_mode(source))
        # The engine takes modes from here, and the umask of whoever runs this may be any.
        for folder in [path for path in Path(directory).rglob("*") if path.is_dir()]:
            folder.chmod(0o755)
        # The host's network, because a machine may reach its mirror through a proxy on its own loopback.
        arguments = ["--network=host", "--build-arg", f"BASE={_parent_tag(name)}", "--tag", image]
        stream(["docker", "build", "--quiet", *arguments, directory], lambda line: None)


def remove_all() -> None:
    """Remove every image of the lab from the engine, those of older recipes too."""
    base.remove_rests()
    listed = run(["docker", "images", "--quiet", "--filter", "label=ascend-lab=image"]).split()
    if listed:
        run(["docker", "image", "rm", "--force", *dict.fromkeys(listed)])
