# SPDX-License-Identifier: GPL-3.0-or-later
"""What the container's Python makes of the source trees: where it finds each package, and whether it can really be imported."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence

from .errors import UnparsedError, VerificationError
from .host import Completed, Runner

LAUNCH_TREE = (
    "MindSpeed-LLM"  # its programs are started from its own directory, so that is where packages are looked for
)
# package -> the tree it has to come from; None is the image. In the order in which a training program imports them.
PACKAGES = {
    "torch": None,
    "torch_npu": None,
    "transformers": None,
    "mindspeed": "MindSpeed",
    "mindspeed_llm": LAUNCH_TREE,
    "megatron.core": LAUNCH_TREE,
}
FIND_TIMEOUT = 120.0  # seconds; nothing is imported
IMPORT_TIMEOUT = 900.0  # seconds; the first import compiles and reads gigabytes of libraries from a cold disk

# The packages' names travel in the environment: upstream's packages parse sys.argv when they are imported.
_FIND = """
import importlib.util, json, os
answer = {"root": os.path.realpath(os.environ["FLEET_ROOT"]), "packages": {}, "errors": {}}
for name in os.environ["FLEET_PACKAGES"].split():
    try:
        spec = importlib.util.find_spec(name)
        places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
        answer["packages"][name] = {"file": os.path.realpath(places[0]), "version": ""}
    except Exception as error:
        answer["errors"][name] = "%s: %s" % (type(error).__name__, error)
print()
print(json.dumps(answer))
"""
_IMPORT = """
import importlib, json, os, platform
from importlib import metadata
answer = {"root": os.path.realpath(os.environ["FLEET_ROOT"]), "packages": {}, "errors": {}}
answer["python"] = platform.python_version()
for name in os.environ["FLEET_PACKAGES"].split():
    try:
        module = importlib.import_module(name)
        place = getattr(module, "__file__", None) or list(module.__path__)[0]
        version = getattr(module, "__version__", "")
        if not version:
            try:
                version = metadata.version(name.split(".")[0])
            except metadata.PackageNotFoundError:
                version = ""
        answer["packages"][name] = {"file": os.path.realpath(place), "version": str(version)}
    except (Exception, SystemExit) as error:
        answer["errors"][name] = "%s: %s" % (type(error).__name__, error)
print()
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class Seen:
    """What the container's Python said. `files` and `versions` by package; `errors` by package that failed; `root` is resolved."""

    root: str
    files: Mapping[str, str]
    versions: Mapping[str, str]
    errors: Mapping[str, str]

    def problems(self) -> List[str]:
        """Return what is not as it has to be, one line a package."""
        found = [f"{name}: {text}" for name, text in sorted(self.errors.items())]
        for name, tree in PACKAGES.items():
            place = self.files.get(name)
            expected = os.path.join(self.root, tree) + os.sep if tree else ""
            if place is not None and not place.startswith(expected):
                found.append(f"{name} is taken from {place} and not from {expected}")
        return found


def find(runner: Runner, root: str, python: str) -> Seen:
    """Say where the packages would come from, without importing them."""
    return _ask(runner, root, python, _FIND, FIND_TIMEOUT)


def import_all(runner: Runner, root: str, python: str) -> Seen:
    """Import the packages as a training program does; raises VerificationError where one fails or comes from elsewhere."""
    seen = _ask(runner, root, python, _IMPORT, IMPORT_TIMEOUT)
    problems = seen.problems()
    if problems:
        raise VerificationError(
            f"The sources cannot be used in the container: {'; '.join(problems)}.",
            "A missing package: give mindspeed_source_wheels a directory that has it. An ImportError between the trees: "
            "their commits do not fit together, compare them with the release row.",
            problems=problems,
        )
    return seen


def parse(done: Completed) -> Seen:
    """Read the answer of either program: its last line, since imports may print."""
    try:
        data: Dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        packages: Mapping[str, Mapping[str, str]] = data["packages"]
        files = {name: package["file"] for name, package in packages.items()}
        versions = {name: package["version"] for name, package in packages.items() if package["version"]}
        versions.update({"python": data["python"]} if "python" in data else {})
        return Seen(data["root"], files, versions, dict(data["errors"]))
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise UnparsedError(
            f"The import probe answered {done.stdout[-300:]!r}.", "Look at what the container's Python prints at start."
        ) from error


def _ask(runner: Runner, root: str, python: str, program: str, timeout: float) -> Seen:
    env = {"FLEET_ROOT": root, "FLEET_PACKAGES": " ".join(_names())}
    done = runner.run([python, "-"], stdin=program, env=env, cwd=os.path.join(root, LAUNCH_TREE), timeout=timeout)
    return parse(done)


def _names() -> Sequence[str]:
    return list(PACKAGES)
