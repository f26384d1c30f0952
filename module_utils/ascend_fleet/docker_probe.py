# SPDX-License-Identifier: GPL-3.0-or-later
"""A look from inside: does the container's Python run, does torch_npu load, and how many NPUs does it see?"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Sequence

from .errors import UnparsedError, VerificationError
from .host import Completed, Runner

TIMEOUT = 300.0  # seconds; the first import of torch from a cold disk takes tens of seconds

# Runs in the container on its standard input, so that nothing has to lie there. Standard output may carry what libraries print at
# import: only its last line is ours.
PROGRAM = """
import json, platform, sys
answer = {"python": platform.python_version(), "executable": sys.executable, "machine": platform.machine(), "errors": {}}
for name in ("torch", "torch_npu"):
    try:
        answer[name] = str(__import__(name).__version__)
    except Exception as error:
        answer["errors"][name] = "%s: %s" % (type(error).__name__, error)
if not answer["errors"]:
    import torch
    try:
        answer["npus"] = torch.npu.device_count()
    except Exception as error:
        answer["errors"]["device_count"] = "%s: %s" % (type(error).__name__, error)
print()
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class Probe:
    """What was seen from inside. `npus` is -1 where it could not be counted; `errors` says why."""

    python: str
    executable: str
    machine: str
    npus: int
    versions: Mapping[str, str]
    errors: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "python": self.python,
            "executable": self.executable,
            "machine": self.machine,
            "npus": self.npus,
            "versions": dict(self.versions),
        }


def probe(runner: Runner, python: str) -> Probe:
    """Look from inside; raises CommandError where an environment script or Python itself fails."""
    done = runner.run(
        [python, "-"],
        stdin=PROGRAM,
        timeout=TIMEOUT,
        remedy="Check training_container_env_scripts and training_container_python against the image.",
    )
    return parse(done)


def parse(done: Completed) -> Probe:
    """Read the answer of the probe's program."""
    try:
        data = json.loads(done.stdout.strip().splitlines()[-1])
        versions = {name: data[name] for name in ("torch", "torch_npu") if name in data}
        return Probe(
            data["python"],
            data["executable"],
            data["machine"],
            int(data.get("npus", -1)),
            versions,
            dict(data["errors"]),
        )
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise UnparsedError(
            f"The probe in the container answered {done.stdout[-300:]!r}.", "Look at what its Python prints at start."
        ) from error


def require(found: Probe, name: str, npus: Sequence[int], privileged: bool = False) -> None:
    """Raise VerificationError unless torch_npu loads and sees exactly the cards that the container was given.

    A privileged container sees every card of the server, so there it can only see too few.
    """
    if found.errors:
        said = "; ".join(f"{part}: {text}" for part, text in sorted(found.errors.items()))
        raise VerificationError(
            f"In container {name} the NPU software does not work: {said}.",
            "Compare the image's torch, torch_npu and CANN with the release row, and the driver with what CANN asks for.",
            probe=found.as_dict(),
        )
    if found.npus < len(npus) or (found.npus > len(npus) and not privileged):
        raise VerificationError(
            f"Container {name} was given NPU {', '.join(str(number) for number in npus)} ({len(npus)}), but torch_npu sees {found.npus}.",
            "Look what else holds one of these cards (npu-smi info, docker ps): one card held elsewhere hides them all.",
            probe=found.as_dict(),
        )
