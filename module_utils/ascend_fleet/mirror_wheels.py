# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels for the Python and the architecture of the training image, fetched on a machine that has neither.

One requirement that cannot be had must not hide the others: where they cannot be had together, each is asked for alone, pure Python
packages without a wheel are built, and what is left over is named.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .errors import CommandError, FleetError, InputError, VerificationError, last_lines
from .git import Git
from .host import Completed, Host
from .mirror_record import Mirrored, Record, converge_mirrored, partial
from .outcome import Outcome
from .receipt import Verdict
from .transfer_files import make_readable, move_into_place

LIMIT = 2 * 3600.0  # seconds for one call of pip
# glibc of the images: openEuler 22.03 has 2.34, the oldest base that was used 2.28. Wheels for an older one run on a newer.
GLIBC = ("2_28", "2_27", "2_24", "2_17")
_WHEEL = re.compile(
    r"^(?P<name>[^-]+)-(?P<version>[^-]+)(?:-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl$"
)
_NETWORK = re.compile(
    r"Retrying \(|ConnectionError|NewConnectionError|Temporary failure in name|Read timed out|HTTP error 5\d\d"
)
_REASON = re.compile(r"^(?:ERROR:|error:)\s*(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Target:
    """Where the wheels will be installed: Python as in 3.8, architecture as in aarch64."""

    python: str
    architecture: str

    def arguments(self) -> List[str]:
        """Return what tells pip to choose for there and not for here."""
        line = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", self.python]
        for abi in (f"cp{self.python.replace('.', '')}", "abi3", "none"):
            line += ["--abi", abi]
        for platform in self.platforms():
            line += ["--platform", platform]
        return line

    def platforms(self) -> List[str]:
        """Return the platform tags that the image's Python takes."""
        tags = [f"manylinux_{glibc}_{self.architecture}" for glibc in GLIBC]
        return [*tags, f"manylinux2014_{self.architecture}", f"linux_{self.architecture}"]

    def takes(self, file: str) -> bool:
        """Say whether a wheel can be installed there, by its name."""
        found = _WHEEL.match(file)
        return found is not None and any(
            tag == "any" or tag.endswith(f"_{self.architecture}") for tag in found.group("platform").split(".")
        )


@dataclass
class Gathered:
    """What came of the requirements: which could not be had, with pip's reason, and which wheels were built here."""

    missing: List[Dict[str, str]] = field(default_factory=list)
    built: List[str] = field(default_factory=list)


class WheelMirror:
    """The wheels for a list of requirements."""

    def __init__(self, host: Host, params: Mapping[str, Any]) -> None:
        self.host = host
        self.params = params
        self.place: str = params["directory"].rstrip("/")
        self.artifact = Mirrored(Record(host, params["record"]), self.place)
        self.partial = partial(self.place)
        self.target = Target(params["python"], params["architecture"])
        self.requirements = self._requirements()

    def inputs(self) -> Dict[str, Any]:
        """Return what is asked for; the index is a way there and no part of it."""
        return {
            "requirements": self.requirements,
            "python": self.target.python,
            "architecture": self.target.architecture,
            "build": self.params["build"],
        }

    def build(self, verdict: Verdict) -> Dict[str, Any]:
        """Fetch into the partial directory, which pip takes up again after an interruption, and put it in place as a whole."""
        self.host.make_dirs(self.partial)
        with self.artifact.followed("fetching"):
            gathered = Gathered() if self._download(self.requirements) is None else self._one_by_one()
        wheels = [name for name in self.host.list_dir(self.partial) if name.endswith(".whl")]
        self._check(wheels)
        for name in wheels:
            make_readable(os.path.join(self.partial, name))
            move_into_place(os.path.join(self.partial, name), os.path.join(self.place, name))
        self.host.make_dirs(self.place)
        for name in set(self.host.list_dir(self.place)) - set(wheels):
            if name.endswith(".whl"):  # of other requirements; pip would choose among all of them
                self.host.remove(os.path.join(self.place, name))
        self.host.remove(self.partial)
        return {
            "wheels": wheels,
            "missing": gathered.missing,
            "built": sorted(gathered.built),
            "index": self.params["index_url"],
        }

    def _requirements(self) -> List[str]:
        lines = list(self.params["requirements"])
        for source in self.params["sources"]:
            git = Git(self.host, os.path.dirname(source["repository"]))
            at = f"{source['commit']}:{source.get('file') or 'requirements.txt'}"
            done = git.run(source["repository"], ["show", at], check=False)
            if done.rc != 0:
                raise InputError(
                    f"{source['repository']} has no {at}.", "Mirror the sources first: playbooks/mirror-sources.yml."
                )
            lines += done.stdout.splitlines()
        cleaned = [line.split(" #")[0].strip() for line in lines]
        found = sorted({line for line in cleaned if line and not line.startswith(("#", "-"))}, key=str.lower)
        if not found:
            raise InputError("There are no requirements to get wheels for.", "Check the commits of the release row.")
        return found

    def _pip(self, *line: str) -> Completed:
        argv = [*self.params["pip"], *line, "--disable-pip-version-check", "--no-input"]
        argv += ["--index-url", self.params["index_url"]] if self.params["index_url"] else []
        argv += ["--no-index"] if self.params["no_index"] else []
        for place in [*self.params["find_links"], self.partial]:
            argv += ["--find-links", place]
        done = self.host.run(argv, check=False, timeout=LIMIT, remedy="Install pip on this machine.")
        if done.rc != 0 and _NETWORK.search(done.stderr):
            # That nothing is found is then no answer: the next run has to ask again.
            raise CommandError(
                argv,
                done.rc,
                done.stdout,
                done.stderr,
                remedy="Check the way to the package index (https_proxy, index url) and run again: what arrived is kept.",
            )
        if done.rc != 0 and "No module named pip" in done.stderr:
            raise FleetError(f"{argv[0]} has no pip.", "Install pip, or set staging_mirror_pip.")
        return done

    def _download(self, requirements: Sequence[str]) -> Optional[str]:
        """Fetch requirements with all they need, in versions that go together; return why not, or None."""
        done = self._pip("download", "--quiet", "--dest", self.partial, *self.target.arguments(), *requirements)
        return None if done.rc == 0 else _reason(done)

    def _one_by_one(self) -> Gathered:
        gathered = Gathered()
        for requirement in self.requirements:
            why = self._download([requirement])
            if why is not None and self.params["build"] and self._built(requirement, gathered):
                why = self._download([requirement])
            if why is not None:
                gathered.missing.append({"requirement": requirement, "reason": why})
        return gathered

    def _built(self, requirement: str, gathered: Gathered) -> bool:
        """Make a wheel of a package that has none, and keep it if it is pure Python: it is then the same for every machine."""
        folder = os.path.join(self.partial, ".built")
        self.host.remove(folder)
        self.host.make_dirs(folder)
        self._pip("wheel", "--quiet", "--no-deps", "--wheel-dir", folder, requirement)
        pure = [name for name in self.host.list_dir(folder) if name.endswith("-none-any.whl")]
        for name in pure:
            self.host.rename(os.path.join(folder, name), os.path.join(self.partial, name))
        gathered.built += pure
        self.host.remove(folder)
        return bool(pure)

    def _check(self, wheels: Sequence[str]) -> None:
        wrong = [name for name in wheels if not self.target.takes(name)]
        if wrong:
            raise VerificationError(
                f"pip left wheels that are not for {self.target.architecture}: {', '.join(wrong)}.",
                f"Remove them from {self.partial} and run again.",
            )


def mirror_wheels(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Action of module wheel_mirror; `params` are its options."""
    if check_mode and not all(host.is_dir(source["repository"]) for source in params["sources"]):
        line = f"{params['directory']}: would be fetched once the sources are mirrored"
        values = {
            "place": params["directory"],
            "found": "absent",
            "made_with": None,
            "files": 0,
            "bytes": 0,
            "missing": [],
        }
        return Outcome(True, before={"found": ["absent"]}, after={"found": []}, actions=[line], values=values)
    mirror = WheelMirror(host, params)
    outcome = converge_mirrored(mirror.artifact, mirror.inputs(), mirror.build, params["verify"], check_mode)
    outcome.values["missing"] = (outcome.values["made_with"] or {}).get("missing", [])
    return outcome


def _reason(done: Completed) -> str:
    """Return pip's own reason in one line: the first of its errors that is not about what it tried in vain before."""
    found = _REASON.findall(done.stderr)
    return found[-1].strip() if found else last_lines(done.stderr, 1)
