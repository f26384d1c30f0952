# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine whose one container is this machine: real programs run, without Docker.

It is a program of its own, given to modules as their `docker_cli`; it knows `container inspect`, `top` and `exec` and
refuses everything else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PROGRAM = """#!{python}
import json, os, sys

STATE = {state!r}
words = sys.argv[1:]
with open(STATE) as stream:
    state = json.load(stream)
if words[:2] == ["container", "inspect"]:
    if state is None or words[2] != state["Name"].lstrip("/"):
        sys.exit("Error response from daemon: No such container: " + words[2])
    print(json.dumps([state]))
    sys.exit(0)
if words[0] == "top" and state is not None:
    print("PID COMMAND\\n" + state["Job"])
    sys.exit(0)
if words[0] != "exec" or state is None:
    sys.exit("local engine: unknown command " + " ".join(words))
with open(STATE + ".calls", "a") as stream:
    stream.write("exec\\n")
place, environment = 1, dict(os.environ)
while words[place].startswith("--"):
    if words[place] == "--interactive":
        place += 1
    elif words[place] == "--workdir":
        os.chdir(words[place + 1])
        place += 2
    elif words[place] == "--env":
        name, value = words[place + 1].split("=", 1)
        environment[name] = value
        place += 2
    else:
        sys.exit("local engine: unknown option " + words[place])
assert words[place] == state["Name"].lstrip("/")
os.execvpe(words[place + 1], words[place + 1:], environment)
"""


class LocalEngine:
    """Starts and replaces the one container; `cli` is the program to hand to modules."""

    name = "llm"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._state = folder / "container.json"
        self._calls = folder / "container.json.calls"
        cli = folder / "engine"
        cli.write_text(PROGRAM.format(python=sys.executable, state=str(self._state)))
        cli.chmod(0o755)
        self.cli = str(cli)
        self.run("first")

    def run(self, identity: str, job: str = "") -> None:
        """Have a running container with this id, and in it a process with this command line."""
        state = {
            "Id": identity,
            "Name": f"/{self.name}",
            "Image": "sha256:" + "a" * 64,
            "State": {"Status": "running", "StartedAt": ""},
            "Config": {"Image": "image:1", "Labels": {}},
            "Job": job,
        }
        self._state.write_text(json.dumps(state))

    def remove(self) -> None:
        """Have no container."""
        self._state.write_text("null")

    def starts(self) -> int:
        """How many programs were started in the container since the last time this was asked."""
        count = len(self._calls.read_text().splitlines()) if self._calls.exists() else 0
        self._calls.write_text("")
        return count
