# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring this machine to where the lab and the tests can run: `python3 scripts/setup [step...]`.

Steps: packages, venv, chosen, engine (together the default); controller, the packages of a controller of real servers; chosen,
the environment that the variable ANSIBLE names; rehearsal, the environment of the real MindSpeed-LLM; tests, what only they need; and
stop, which ends the engine that setup started.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):
    sys.exit(f"setup: Python 3.11 is needed, this is {sys.version.split()[0]}; run make with PYTHON=python3.11")

import engine
import environment
import packages
from say import SetupError

STEPS = {
    "packages": packages.install,
    "controller": packages.install_for_controller,
    "venv": environment.CONTROLLER.prepare,
    "chosen": environment.prepare_chosen,
    "rehearsal": environment.REHEARSAL.prepare,
    "engine": engine.start,
    "tests": packages.install_for_tests,
    "stop": engine.stop,
}
DEFAULT = ("packages", "venv", "chosen", "engine")


def main(names: list[str]) -> int:
    """Run the named steps in order; the first failure ends it with a message."""
    unknown = [name for name in names if name not in STEPS]
    if unknown:
        print(f"setup: no step {unknown[0]!r}; the steps are {', '.join(STEPS)}", file=sys.stderr)
        return 2
    for name in names or DEFAULT:
        try:
            STEPS[name]()
        except SetupError as error:
            print(f"setup: {name} failed: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
