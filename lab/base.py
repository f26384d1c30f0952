# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian base of every lab image. It needs the Docker engine and debootstrap, and nobody who is root.

debootstrap's first half, which only unpacks, runs here (under fakeroot for an ordinary user); its second half, which runs
programs of the new system, runs in a container. One path serves root and everybody else who may use Docker.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import apt
from lab.shell import attempt, long_work, run, say, stream

REPOSITORY = "ascend-lab"
PACKAGES = ("ca-certificates", "iproute2", "procps", "python3")
# Nothing of this is needed in the images, and the training image travels.
LEFT_OUT = ("/var/cache/apt", "/var/lib/apt/lists", "/usr/share/doc", "/usr/share/man", "/usr/share/locale")
FORMAT = "2"
LABEL = "ascend-lab.base"  # of the container in which the second half runs
PHASES = ("Retrieving", "Validating", "Extracting", "Installing", "Unpacking", "Configuring")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_MAKING = threading.Lock()
# One shell, because fakeroot remembers owners only within it: $1 is the archive, $2 the directory, then debootstrap's words.
_UNPACK = 'archive=$1; root=$2; shift 2; debootstrap "$@" && exec tar -C "$root" --numeric-owner -cf "$archive" .'
# dpkg need not wait for the disk: what a crash leaves is thrown away.
_CONFIGURE = (
    "echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/unsafe-io && /debootstrap/debootstrap --second-stage"
    ' && rm /etc/dpkg/dpkg.cfg.d/unsafe-io && exec find "$@" -mindepth 1 -delete'
)


def tag() -> str:
    """The name of the base image, by everything that decides its content except the mirror."""
    parts = [FORMAT, apt.SUITE, platform.machine(), *PACKAGES, *LEFT_OUT]
    return f"{REPOSITORY}/base:{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:12]}"


def ensure() -> None:
    """Make the base image when the engine does not have it; several images may ask for it at the same time."""
    with _MAKING:
        if attempt(["docker", "image", "inspect", tag()]).returncode:
            _make()


def _make() -> None:
    mirror = apt.choose_mirror(apt.machine_sources())
    with long_work(f"installing Debian {apt.SUITE} from {mirror} into a base image"), _scratch() as directory:
        unpacked, configured = directory / "unpacked.tar", directory / "configured.tar"
        _unpack(directory / "root", unpacked, mirror)
        first = run(["docker", "import", str(unpacked)])
        unpacked.unlink()
        try:
            _configure(first, configured, mirror)
        finally:
            run(["docker", "image", "rm", "--force", first])
        run(["docker", "import", "--change", "LABEL ascend-lab=image", str(configured), tag()])


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory for a root file system, removed by a command that does not cross into mounts left in it."""
    directory = Path(tempfile.mkdtemp(prefix="lab-base-"))
    try:
        yield directory
    finally:
        run(["rm", "-rf", "--one-file-system", str(directory)])


def _unpack(root: Path, archive: Path, mirror: str) -> None:
    """Write Debian's packages as a tar, unpacked and not configured, with owners as in the packages whoever runs this."""
    root.mkdir()
    root.chmod(0o755)
    # debootstrap lies in sbin, which an ordinary user's PATH may lack.
    environment = {
        **apt.proxy_environment(apt.proxy_settings()),
        "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
    }
    argv = ["env", *(f"{name}={value}" for name, value in environment.items()), *(["fakeroot"] if os.geteuid() else [])]
    options = ["--foreign", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    argv += ["sh", "-c", _UNPACK, "unpack", str(archive), str(root), *options, apt.SUITE, str(root), mirror]
    stream(argv, _milestones())


def _configure(image: str, archive: Path, mirror: str) -> None:
    """Run debootstrap's second half in a container of the unpacked packages and write what it leaves as one tar."""
    second = ["sh", "-c", _CONFIGURE, "configure", *LEFT_OUT]
    container = run(["docker", "create", "--label", LABEL, "--network", "none", image, *second])
    try:
        stream(["docker", "start", "--attach", container], _milestones())
        run(["docker", "cp", "-", f"{container}:/etc"], _settings(mirror))
        run(["docker", "export", "--output", str(archive), container])
    finally:
        run(["docker", "rm", "--force", container])


def _settings(mirror: str) -> bytes:
    """A tar for /etc: apt's settings, and this machine's certificates where the mirror may be known to it alone."""
    text = f'{apt.proxy_settings()}Acquire::Languages "none";\nAcquire::Retries "3";\n'
    entries = {"apt/apt.conf.d/90ascend-lab": text.encode()}
    if mirror.startswith("https://") and CERTIFICATES.is_file():
        entries["ssl/certs/ca-certificates.crt"] = CERTIFICATES.read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _milestones() -> Callable[[str], None]:
    """Hand back a line reader that reports each debootstrap phase when it begins."""
    seen: set[str] = set()

    def read(line: str) -> None:
        word = line.removeprefix("I: ").partition(" ")[0]
        if line.startswith("I: ") and word in PHASES and word not in seen:
            seen.add(word)
            say(f"debootstrap: {word.lower()} packages")

    return read


def remove_rests() -> None:
    """Remove containers that an interrupted making of the base left behind."""
    left = run(["docker", "ps", "--all", "--quiet", "--filter", f"label={LABEL}"]).split()
    if left:
        run(["docker", "rm", "--force", *left])
