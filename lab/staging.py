# SPDX-License-Identifier: GPL-3.0-or-later
"""What the staging host holds: image archive, git repositories, model and dataset, made once and kept in a cache.

A piece of content is a tree as it stands below /srv/ascend, kept under a key made of everything that decides it,
so that any clone of the same state finds it ready.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import images, real_upstream
from lab.pieces import Piece
from lab.shell import CLONE, REHEARSAL, LabError, cache_directory, long_work, run, say, stream

PLACE = "/srv/ascend"
TRAINING_IMAGE = "mindspeed-llm:2025.rc1-lab"
KEPT_PER_PIECE = 3
# The user of the staging image who owns the files (lab/images/staging/Dockerfile).
OWNER = "keeper:1001"


def pieces() -> list[Piece]:
    """Everything that the staging host holds."""
    return [
        Piece("image", images.tag(_training()).rpartition(":")[2], _build_archive),
        real_upstream.piece() if REHEARSAL else _stand_ins(),
        Piece("model", content_key("lab/model"), lambda target: _run_builder("lab.model.build", target)),
    ]


def _stand_ins() -> Piece:
    return Piece("git", content_key("lab/upstream"), lambda target: _run_builder("lab.upstream.build", target / "git"))


def _training() -> str:
    """The recipe of the training image; the real repositories want a compiler in it."""
    return "rehearsal" if REHEARSAL else "training"


def content_key(folder: str) -> str:
    """A hash of a builder's sources, with the interpreter and torch that it works with."""
    digest = hashlib.sha256(f"{sys.version_info[:3]} {_torch_build()}".encode())
    for path in sorted((CLONE / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md":
            digest.update(f"{path.relative_to(CLONE)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _torch_build() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch")
    except PackageNotFoundError as error:
        raise LabError("this Python has no torch; run the lab with .venv/bin/python (`make venv` makes it)") from error


def ensure() -> list[Piece]:
    """Make what is missing, side by side; return every piece."""
    wanted = pieces()
    missing = [piece for piece in wanted if not piece.directory.is_dir()]
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(make, missing))
    for piece in wanted:
        os.utime(piece.directory)  # what was used last is pruned last
    return wanted


def make(piece: Piece) -> None:
    """Build a piece beside its place and move it there whole."""
    place = piece.directory
    with long_work(f"making the staging content `{piece.name}`"):
        partial = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            piece.build(partial)
            partial.chmod(0o755)
            partial.rename(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    _prune(piece.name)


def _prune(name: str) -> None:
    """Keep the newest few results of a piece: an image archive takes hundreds of megabytes."""
    kept = sorted(cache_directory().glob(f"{name}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for directory in kept[KEPT_PER_PIECE:]:
        shutil.rmtree(directory)


def remove_cached() -> None:
    """Remove every cached result, those of other clones too."""
    for directory in cache_directory().iterdir():
        if directory.is_dir():
            shutil.rmtree(directory)


def _build_archive(target: Path) -> None:
    """Write the training image as the archive that users bring along."""
    built = images.ensure(_training())[_training()]
    directory = target / "images"
    directory.mkdir()
    archive = directory / f"{TRAINING_IMAGE.replace(':', '-')}.tar"
    run(["docker", "tag", built, TRAINING_IMAGE])
    try:
        run(["docker", "save", "--output", str(archive), TRAINING_IMAGE])
    finally:
        run(["docker", "image", "rm", "--no-prune", TRAINING_IMAGE])
    say(f"image archive: {archive.stat().st_size / 1e6:.0f} MB")


def _run_builder(module: str, target: Path) -> None:
    """Run a builder as a program of its own, one thread: another builder works beside it."""
    target.mkdir(exist_ok=True)
    stream(["env", "OMP_NUM_THREADS=1", sys.executable, "-m", module, "--out", str(target)], say)


def pinned_commits(content: list[Piece]) -> dict[str, str]:
    """Repository name -> the commit that a release would pin, which each repository has as its one tag."""
    found = {}
    for piece in content:
        for tag in piece.directory.glob("git/*.git/refs/tags/*"):
            found[tag.parents[2].stem] = tag.read_text(encoding="utf-8").strip()
    return dict(sorted(found.items()))


def deliver(container: str, content: list[Piece]) -> None:
    """Copy every piece onto the staging host below /srv/ascend, as files of its user."""
    top = os.path.basename(PLACE)
    for piece in content:
        pack = ["tar", "-C", str(piece.directory), f"--owner={OWNER}", f"--group={OWNER}", "--mode=u=rwX,go=rX"]
        pack += [f"--transform=s,^\\.,{top},", "-cf", "-", "."]
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as tar:
            unpack = ["docker", "cp", "-", f"{container}:{os.path.dirname(PLACE)}"]
            done = subprocess.run(unpack, stdin=tar.stdout, capture_output=True, check=False)
        if tar.returncode or done.returncode:
            raise LabError(f"copying {piece.directory} to {container} failed: {done.stderr.decode(errors='replace')}")
