# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether work in the background still goes on: what the controller asks a host beside its progress, and what follows from the answer.

Ansible's job file says that a job is unfinished until the job itself says otherwise: after a restart of the host, for ever. The pid
in the job's id is that of a process that ended when the job had begun; those that live as long as the job are children of it and
have the rest of the id in their command line (`async_wrapper.py j<number> ...`).
"""

from __future__ import annotations

import re
import shlex
from typing import Any, Dict, Mapping, NamedTuple, Tuple

from .errors import FleetError

MARK = "ascend-fleet-sight"
KEPT = "what arrived or was made is kept, and the work goes on from there"
# A terminal, which sudo may need, ends lines with \r\n.
_ANSWER = re.compile(rf"^{MARK}:(?P<boot>[0-9a-f-]*):(?P<process>[a-z]*)\r?$", re.MULTILINE)
# Where not even this shell's own entry can be read, /proc cannot tell who lives: no answer. In brackets the first letter of the
# job's name keeps this very command line from being found. One line: there are login shells that take no more.
_QUESTION = (
    "boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null); process=; "
    'if grep -qs . "/proc/$$/cmdline"; then '
    "if grep -qs {pattern} /proc/[0-9]*/cmdline; then process=alive; else process=gone; fi; fi; "
    'echo "{mark}:$boot:$process"; cat {progress} 2>/dev/null || :'
)
GONE = "gone"


class Sight(NamedTuple):
    """What one question showed. `boot` is new with every start of the host; `process` is alive, gone, or empty where unknown."""

    boot: str = ""
    process: str = ""


def question(job_id: str, progress: str) -> str:
    """Return the line of shell that tells whether a job lives and then prints the file `progress` where there is one."""
    name = job_id.rpartition(".")[0] or job_id
    return _QUESTION.format(pattern=shlex.quote(f"[{name[0]}]{name[1:]}"), mark=MARK, progress=shlex.quote(progress))


def read_answer(text: str) -> Tuple[Sight, str]:
    """Return what the answer shows, and the progress behind it; a Sight without values where the host said something else."""
    found = _ANSWER.search(text)
    if found is None:
        return Sight(), ""
    return Sight(found.group("boot"), found.group("process")), text[found.end() :].strip()


class Watch:
    """Follows one job by what the questions show, and says when it cannot end any more."""

    def __init__(self, host: str, doing: str) -> None:
        self.host, self.doing = host, doing
        self._boot = ""
        self._gone = 0

    def see(self, sight: Sight) -> None:
        """Take in a look that was made after the job file had said: unfinished.

        Raises FleetError at the second look in a row without the process. In between the job file is read again: a job that
        writes its result and ends between the two is finished, and nobody asks here.
        """
        self._gone = self._gone + 1 if sight.process == GONE else 0
        restarted = bool(self._boot and sight.boot and sight.boot != self._boot)
        self._boot = self._boot or sight.boot
        if self._gone < 2:
            return
        if restarted:
            raise FleetError(
                f"{self.host} was restarted while it was at work ({self.doing}).", f"Run again once it is up: {KEPT}."
            )
        raise self.without_result("nothing of it runs any more")

    def without_result(self, why: str) -> FleetError:
        """Return the error for work that is over and has said nothing."""
        return FleetError(
            f"The work on {self.host} ({self.doing}) ended without a result: {why}.",
            f"Look at dmesg there for a process that was killed (Out of memory), then run again: {KEPT}.",
        )

    def check_result(self, answer: Mapping[str, Any]) -> None:
        """Raise FleetError for a finished job that is only the wrapper's own report: the module was killed, or the job file is gone."""
        said = str(answer.get("msg", ""))
        if "could not find job" in said:
            raise self.without_result("its job file is gone")
        silent = "No start of json char found" in said and not str(answer.get("data", "")).strip()
        if silent:
            last = str(answer.get("stderr", "")).strip().splitlines()[-1:]
            raise self.without_result(f"the process said {last[0]!r} last" if last else "the process was killed")


def failure(error: FleetError) -> Dict[str, Any]:
    """Return an error as the result of a task."""
    return {"failed": True, **error.as_result()}
