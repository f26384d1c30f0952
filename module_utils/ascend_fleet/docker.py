# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker, or a command-line tool that answers like it: images and containers of one server, as frozen views and single steps."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .errors import CommandError, FleetError, UnparsedError, last_lines
from .host import Completed, Host

QUICK = 60.0  # seconds; the engine answers at once or is in trouble
STEP = 300.0  # seconds for creating, starting or stopping a container
LONG = 7200.0  # seconds for loading or pulling an image of tens of gigabytes
STOP_GRACE = 20  # seconds between the polite and the final signal

_ABSENT = ("no such object", "no such container", "no such image", "no container with name", "image not known")
_TAKEN = "is already in use"
_UNREACHABLE = ("cannot connect to the docker daemon", "is the docker daemon running", "error during connect")


@dataclass(frozen=True)
class Image:
    """An image that is on the server."""

    id: str
    tags: Sequence[str] = ()
    digests: Sequence[str] = ()
    size: int = 0  # bytes
    platform: str = ""  # as in linux/arm64


@dataclass(frozen=True)
class ContainerState:
    """A container that is on the server. `status`: created, running, paused, restarting, exited, dead."""

    id: str
    name: str
    image_id: str
    status: str
    started_at: str = ""
    image: str = ""  # the name it was created from
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Commands can be run in it."""
        return self.status == "running"


class Engine:
    """The container engine of one server."""

    def __init__(self, host: Host, cli: str = "docker") -> None:
        self.host = host
        self.cli = cli

    def image(self, reference: str) -> Optional[Image]:
        """Return the image that a name, `name@digest` or id stands for; None where it is absent."""
        data = self._inspect("image", reference)
        if data is None:
            return None
        return Image(
            _with_algorithm(str(data["Id"])),
            data.get("RepoTags") or [],
            data.get("RepoDigests") or [],
            data.get("Size", 0),
            f"{data.get('Os', '')}/{data.get('Architecture', '')}",
        )

    def container(self, name: str) -> Optional[ContainerState]:
        """Return the container of that name; None where it is absent."""
        data = self._inspect("container", name)
        if data is None:
            return None
        state, config = data["State"], data.get("Config") or {}
        return ContainerState(
            data["Id"],
            data["Name"].lstrip("/"),
            _with_algorithm(data["Image"]),
            state["Status"],
            state.get("StartedAt", ""),
            config.get("Image", ""),
            config.get("Labels") or {},
        )

    def processes(self, name: str) -> List[str]:
        """Return the command lines of what runs in a running container."""
        done = self._run(["top", name, "-eo", "pid,args"], QUICK, remedy="Install ps (procps) on the server.")
        return [line.strip() for line in done.stdout.splitlines()[1:] if line.strip()]

    def answers(self, name: str) -> bool:
        """Say whether a program can be run in a container: one whose own command failed ends a moment after its start."""
        return self._call(["exec", name, "true"], QUICK).rc == 0

    def last_words(self, name: str) -> str:
        """Return the last lines that a container's own command printed."""
        done = self._call(["logs", "--tail", "5", name], QUICK)
        return (done.stdout + done.stderr).strip()

    def load(self, archive: str) -> None:
        """Load the images of an archive made by `docker save`."""
        self._run(
            ["load", "--quiet", "--input", archive], LONG, remedy="Look at the free space of the engine's directory."
        )

    def save(self, reference: str, archive: str) -> None:
        """Write an image, with its name, into an archive."""
        self._run(
            ["save", "--output", archive, reference], LONG, remedy="Look at the free space of the archive's directory."
        )

    def pull(self, reference: str, platform: str = "") -> None:
        """Pull an image from its registry; for another platform than this machine's if one is given."""
        self._run(
            ["pull", "--quiet", *(["--platform", platform] if platform else []), reference],
            LONG,
            remedy="Check the name, the login (docker login) and the way to the registry, or take the image from an archive.",
        )

    def tag(self, source: str, reference: str) -> None:
        """Give an image a further name; another image that has it loses it."""
        self._run(["tag", source, reference], QUICK)

    def create(self, arguments: Sequence[str]) -> str:
        """Create a container without starting it; return its id."""
        try:
            return self._run(["create", *arguments], STEP).stdout.strip()
        except CommandError as error:
            if _TAKEN not in str(error.details["stderr"]).lower():
                raise
            raise FleetError(
                f"A container of that name came up in the meantime: {last_lines(error.details['stderr'], 1)}",
                "Another run is at work on this server, it seems: let it end, and run again.",
            ) from error

    def start(self, name: str) -> None:
        """Start a created or stopped container."""
        self._run(["start", name], STEP)

    def unpause(self, name: str) -> None:
        """Let a paused container go on."""
        self._run(["unpause", name], QUICK)

    def stop(self, name: str) -> None:
        """Stop a container."""
        self._run(["stop", "--time", str(STOP_GRACE), name], STEP)

    def rename(self, name: str, new_name: str) -> None:
        """Give a container another name."""
        self._run(["rename", name, new_name], QUICK)

    def remove(self, name: str) -> None:
        """Remove a container, with what it wrote outside of its mounts."""
        self._run(["rm", "--force", name], STEP)

    def _inspect(self, kind: str, name: str) -> Optional[Dict[str, Any]]:
        done = self._call([kind, "inspect", name], QUICK)
        if done.rc != 0:
            if any(text in done.stderr.lower() for text in _ABSENT):
                return None
            raise CommandError(done.argv, done.rc, done.stdout, done.stderr)
        try:
            found = json.loads(done.stdout)[0]
        except (ValueError, IndexError, KeyError) as error:
            raise UnparsedError(
                f"`{' '.join(done.argv)}` answered {done.stdout[:200]!r}.",
                f"Check that {self.cli} is compatible with Docker.",
            ) from error
        return dict(found)

    def _run(self, arguments: Sequence[str], timeout: float, remedy: str = "") -> Completed:
        done = self._call(arguments, timeout)
        if done.rc != 0:
            raise CommandError(done.argv, done.rc, done.stdout, done.stderr, remedy=remedy)
        return done

    def _call(self, arguments: Sequence[str], timeout: float) -> Completed:
        argv = [self.cli, *arguments]
        try:
            done = self.host.run(argv, check=False, timeout=timeout)
        except CommandError as error:
            if "cannot be started" not in error.message:
                raise
            raise FleetError(
                f"{self.cli} is not installed on this server.",
                "Install Docker, or name a compatible tool in ascend_docker_cli.",
            ) from error
        said = done.stderr.lower()
        if done.rc != 0 and any(text in said for text in _UNREACHABLE):
            raise FleetError(
                f"The Docker daemon of this server does not answer: {done.stderr.strip()}",
                "Start it (systemctl start docker) and look at its log.",
            )
        if done.rc != 0 and "permission denied" in said and "daemon socket" in said:
            raise FleetError(
                f"This user may not use Docker: {done.stderr.strip()}", "Log in as root, or set ansible_become: true."
            )
        return done


def _with_algorithm(identifier: str) -> str:
    """Return an image id as Docker writes it; other engines leave the algorithm out."""
    return identifier if ":" in identifier else f"sha256:{identifier}"
