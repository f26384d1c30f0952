# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's images: one Debian base by debootstrap, and on it a server, a staging host and the training image.

Every image is tagged with a hash of its recipe, so it is built once on a machine, whichever clone asks for it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import apt
from lab.shell import CLONE, LabError, attempt, long_work, run, say, stream

RECIPES = Path(__file__).parent / "images"
REPOSITORY = "ascend-lab"
BASE_PACKAGES = ("ca-certificates", "iproute2", "procps", "python3")
# Nothing of this is needed in the images, and the training image travels.
BASE_LEFT_OUT = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
BASE_FORMAT = "1"
_BASE = threading.Lock()


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


def base_tag() -> str:
    """The name of the base image, by everything that decides its content except the mirror."""
    parts = [BASE_FORMAT, apt.SUITE, platform.machine(), *BASE_PACKAGES, *BASE_LEFT_OUT]
    return f"{REPOSITORY}/base:{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:12]}"


def tag(name: str) -> str:
    """The name of the image `name` (a directory of images/), by a hash of its whole recipe."""
    digest = hashlib.sha256(_parent_tag(name).encode())
    for target, source in recipe_files(name):
        mode = "x" if os.access(source, os.X_OK) else "-"
        digest.update(f"{target} {mode} ".encode() + hashlib.sha256(source.read_bytes()).digest())
    return f"{REPOSITORY}/{name}:{digest.hexdigest()[:12]}"


def _parent_tag(name: str) -> str:
    return tag(PARENTS[name]) if name in PARENTS else base_tag()


def recipe_files(name: str) -> Iterator[tuple[str, Path]]:
    """Every file of a recipe as (path in the build directory, source), in a stable order."""
    trees = [Overlay(RECIPES / name / "root", "/"), *OVERLAYS[name]]
    yield "Dockerfile", RECIPES / name / "Dockerfile"
    for tree in trees:
        for path in sorted(tree.source.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"root{tree.target.rstrip('/')}/{path.relative_to(tree.source)}", path


def exists(image: str) -> bool:
    """True when the engine has the image."""
    return attempt(["docker", "image", "inspect", "--format", "{{.Id}}", image]).returncode == 0


def ensure(*names: str) -> dict[str, str]:
    """Build what is missing of the named images; return each one's tag."""
    tags = {name: tag(name) for name in names}
    missing = [name for name in names if not exists(tags[name])]
    if missing:
        ensure_base()
        ensure(*(PARENTS[name] for name in missing if name in PARENTS))
        with ThreadPoolExecutor(max_workers=3) as pool:
            list(pool.map(lambda name: _build(name, tags[name]), missing))
    return tags


def _build(name: str, image: str) -> None:
    with long_work(f"building the {name} image"), tempfile.TemporaryDirectory(prefix="lab-image-") as directory:
        for target, source in recipe_files(name):
            place = Path(directory) / target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)
        # The host's network, because a machine may reach its mirror through a proxy on its own loopback.
        arguments = ["--network=host", "--build-arg", f"BASE={_parent_tag(name)}", "--tag", image]
        stream(["docker", "build", "--quiet", *arguments, directory], lambda line: None)


def ensure_base() -> None:
    """Make the base image when the engine does not have it; several images may ask for it at the same time."""
    with _BASE:
        if not exists(base_tag()):
            _make_base()


def _make_base() -> None:
    if os.geteuid():
        raise LabError("debootstrap needs root to build the lab's base image; run make as root")
    mirror = apt.choose_mirror(apt.machine_sources())
    with long_work(f"installing Debian {apt.SUITE} from {mirror} into a base image"), _scratch() as directory:
        _debootstrap(directory, mirror)
        _import(directory)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory for a root file system, removed by a command that does not cross into mounts left in it."""
    directory = Path(tempfile.mkdtemp(prefix="lab-base-"))
    try:
        yield directory
    finally:
        run(["rm", "-rf", "--one-file-system", str(directory)])


def _debootstrap(directory: Path, mirror: str) -> None:
    settings = apt.proxy_settings()
    environment = [f"{name}={value}" for name, value in apt.proxy_environment(settings).items()]
    options = ["--variant=minbase", f"--include={','.join(BASE_PACKAGES)}"]
    steps = ("Retrieving", "Validating", "Extracting", "Unpacking", "Configuring")
    stream(
        ["env", *environment, "debootstrap", *options, apt.SUITE, str(directory), mirror],
        _milestones(steps),
    )
    (directory / "etc/apt/apt.conf.d/90ascend-lab").write_text(
        f'{settings}Acquire::Languages "none";\nAcquire::Retries "3";\n', encoding="utf-8"
    )


def _milestones(steps: tuple[str, ...]) -> Callable[[str], None]:
    """Hand back a line reader that reports each debootstrap phase when it begins."""
    seen: set[str] = set()

    def read(line: str) -> None:
        word = line.removeprefix("I: ").partition(" ")[0]
        if word in steps and word not in seen:
            seen.add(word)
            say(f"debootstrap: {word.lower()} packages")

    return read


def _import(directory: Path) -> None:
    for name in BASE_LEFT_OUT:
        run(["find", str(directory / name), "-mindepth", "1", "-delete"])
    bundle = _own_certificates(directory)
    if bundle:
        shutil.copy(bundle, directory / "etc/ssl/certs/ca-certificates.crt")
    archive = directory.parent / f"{directory.name}.tar"
    try:
        run(["tar", "-C", str(directory), "--numeric-owner", "-cf", str(archive), "."])
        run(["docker", "import", "--change", "LABEL ascend-lab=image", str(archive), base_tag()])
    finally:
        archive.unlink(missing_ok=True)


def _own_certificates(directory: Path) -> Path | None:
    """This machine's certificate bundle, where the mirror is reached over https and may be known to it alone."""
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    sources = (directory / "etc/apt/sources.list").read_text(encoding="utf-8")
    return bundle if "https://" in sources and bundle.is_file() else None


def remove_all() -> None:
    """Remove every image of the lab from the engine, those of older recipes too."""
    listed = run(["docker", "images", "--quiet", "--filter", "label=ascend-lab=image"]).split()
    if listed:
        run(["docker", "image", "rm", "--force", *dict.fromkeys(listed)])
