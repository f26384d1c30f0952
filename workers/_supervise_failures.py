# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a training process ended: texts that are known, what they mean and what to do.

A failure spreads: one rank dies, and all the others report a lost connection or a time-out. `weight` tells the two apart, so that the
cause is reported and not its echo on another host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

JUDGED = 4  # the supervisor itself saw that the run is worthless
CAUSE = 3  # a text that names a cause
UNKNOWN = 2  # the process failed and no text of the table shows
SILENT = 1  # a node gave no more sign of life
ECHO = 0  # a text that usually means: something happened elsewhere


@dataclass(frozen=True)
class Failure:
    """Why a node failed, and what to do about it."""

    reason: str
    remedy: str
    weight: int = CAUSE
    node: str = ""

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data for JSON."""
        return {"reason": self.reason, "remedy": self.remedy, "weight": self.weight, "node": self.node}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Failure:
        """Read what as_dict gave."""
        return cls(str(data["reason"]), str(data["remedy"]), int(data["weight"]), str(data["node"]))


# (pattern, what it means, what to do, weight). The first line of the table that matches a line of the log counts.
_TABLE: List[Tuple[str, str, str, int]] = [
    (
        r"NPU out of memory|CUDA out of memory|EI0011|EL0004",
        "An NPU ran out of memory.",
        "Lower the micro batch size or the sequence length, raise TP or PP, or switch on recomputation; "
        "make sure that no other process holds the card.",
        CAUSE,
    ),
    (
        r"EADDRINUSE|[Aa]ddress already in use|EI0019|EJ0003|have already been bound",
        "A port of the job is taken.",
        "End the process that a former run left behind, or choose another master port.",
        CAUSE,
    ),
    (
        r"Bus error|bus error|No space left on device: '/dev/shm|unable to (?:open|mmap) shared memory",
        "Shared memory in the container is too small.",
        "Re-create the container with a larger shm size (Docker's default is 64 MB) or with the host's IPC.",
        CAUSE,
    ),
    (
        r"No space left on device|Disk quota exceeded",
        "A file system is full.",
        "Free space below the work root (or have the quota raised), then start again: the run resumes.",
        CAUSE,
    ),
    (
        r"\[Errno 5\] Input/output error|\[Errno 30\] Read-only file system",
        "A disk or its network failed.",
        "Look at dmesg before anything is written there again, then start again: the run resumes.",
        CAUSE,
    ),
    (
        r"\\r': command not found|bad interpreter: .*\^M|python\d*\\r",
        "A script has Windows line ends.",
        "Check the file out anew without line end conversion.",
        CAUSE,
    ),
    (
        r"No such file or directory: '[^']*model_optim_rng\.pt'",
        "A rank found no shard of the checkpoint for itself.",
        "Run --tags conversion: it brings each host the shards that its ranks load.",
        CAUSE,
    ),
    (
        r"is not equal to the input argument value|size mismatch for|Missing key\(s\) in state_dict|Unexpected key\(s\) in state_dict",
        "The checkpoint does not fit the model that the arguments describe.",
        "Convert for the same TP and PP (--tags conversion) and look for an argument that was changed by hand.",
        CAUSE,
    ),
    (
        r"unrecognized arguments:|error: ambiguous option: |error: argument |error: the following arguments are required",
        "The training program refuses its arguments.",
        "Check the recipe against the release: the log has the argument.",
        CAUSE,
    ),
    (
        r"found NaN in local (?:grad|forward loss)|Rank \d+: found NaN",
        "A gradient became NaN.",
        "Lower the learning rate, check the dataset around the iteration in the log; where it repeats on one card, check that card.",
        CAUSE,
    ),
    (
        r"ModuleNotFoundError|ImportError: (?!lib)",
        "A Python module cannot be imported.",
        "Run --tags source: it installs the pinned sources and proves the imports.",
        CAUSE,
    ),
    (
        r"lib(?:ascend_hal|hccl|torch_npu|ascendcl)\S*: cannot open shared object file",
        "A library of the driver or of CANN is not visible in the container.",
        "Check the mounts of the driver directory and the environment scripts of the release.",
        CAUSE,
    ),
    (
        r"ASCEND_HOME_PATH|expected str, bytes or os\.PathLike object, not NoneType",
        "The CANN environment is not set.",
        "Check the environment scripts of the release row: they have to be sourced in the container.",
        CAUSE,
    ),
    (
        r"No index file|FileNotFoundError: .*(?:\.idx|\.bin|GPTDataset-\w+_index\.npy)'|IndexError: .*document_index",
        "The dataset or its index cache does not fit.",
        "Run --tags preprocessing; on hosts without shared storage the arguments need --no-shared-storage.",
        CAUSE,
    ),
    (
        r"error code is (?:50701[058]|507014|507046|507899)\b|device is in abnormal state|EL0005|aicore (?:exception|timeout)",
        "An NPU reported a fault of its own.",
        "Run --tags driver, and look at the NPU's health and at the plog.",
        CAUSE,
    ),
    (
        r"EI0005|collective communication are inconsistent between ranks",
        "The ranks do not compute the same thing.",
        "All hosts need the same sources and arguments: run --tags source on all of them.",
        CAUSE,
    ),
    (
        r"Cannot find bin(?:ary)? (?:of|for) op|EZ3002|EZ3003",
        "CANN has no kernel for an operator on this chip.",
        "Compare CANN, driver and the kernels package with the release row: --tags driver,container.",
        CAUSE,
    ),
    (
        r"error code is 107001|invalid device id|Invalid device ID",
        "A rank asked for an NPU that the container does not have.",
        "Compare the NPUs of the inventory with the devices of the container: ids inside are dense and start at 0.",
        CAUSE,
    ),
    (
        r"ret(?: is|=)?\s*-80(?:20|05)\b|error code is 507033|EJ0001",
        "An NPU is held by another process.",
        "Run --tags driver: it names who holds the card. After a killed run wait ten seconds.",
        CAUSE,
    ),
    (
        r"EI0006|EI0015|wait socket establish timeout|fails to connect to dstRank|Failed to connect agent"
        r"|topo exchange \w+ get socket timeout",
        "The ranks did not find each other in time.",
        "Every host has to start within the time-out: check the network between the NPUs, TLS switches and the interface names.",
        ECHO,
    ),
    (
        r"EI0002|507048|[Hh]eartbeat lost|notify wait timeout|Connection reset by peer|Connection closed by (?:peer|remote)"
        r"|Broken pipe|recvValue failed",
        "The connection to another rank was lost.",
        "Look for the host that failed first.",
        ECHO,
    ),
]
_COMPILED = [(re.compile(pattern), meaning, remedy, weight) for pattern, meaning, remedy, weight in _TABLE]
_ANY = re.compile("|".join(f"(?:{pattern})" for pattern, *_ in _TABLE))
# torchrun speaks otherwise up to 2.0 (`ERROR:torch...`), in 2.1 and 2.2 (`[<time>] torch...: [ERROR]`), and since (`E0203 ... torch/...`).
_SUMMARY = re.compile(
    r"^(?:[WE]\d{4} .*torch/distributed/elastic/|\[[\d :,-]+\] torch\.distributed\.|(?:WARNING|ERROR):torch\.distributed\.)"
    r"|ChildFailedError|^={20,}$|^\s*exitcode\s*:"
)
_FIRST = re.compile(r"Root Cause.*?\brank\s*:\s*(\d+).*?\bexitcode\s*:\s*(-?\d+[^\n]*)", re.DOTALL)
_ERROR_LINE = re.compile(r"^\s*(?:\[rank\d+\]:\s*)?(?:[\w.]*(?:Error|Exception)\b|Fatal|FATAL).*")


def recognise(line: str, said_by: str = "The log says") -> Optional[Failure]:
    """Return what the table knows about a line of a training log, or of whom `said_by` names."""
    if not _ANY.search(line):
        return None
    for pattern, meaning, remedy, weight in _COMPILED:
        if pattern.search(line):
            return Failure(f"{meaning} {said_by}: {line.strip()[:300]}", remedy, weight)
    return None


def explain_exit(code: int, known: Optional[Failure], tail: Iterable[str], log: str) -> Failure:
    """Return why a training process ended with a status other than 0."""
    if known is not None:
        return known
    lines, summary = _without_summary(list(tail))
    errors = [line.strip() for line in lines if names_error(line)]
    said = (errors or [line.strip() for line in lines if line.strip()] or ["nothing at all"])[-1][:300]
    if code in (-9, 137) or any("exitcode  : -9" in line for line in summary):
        return Failure(
            f"A training process was killed (SIGKILL); the log says: {said}.",
            "Most likely the host ran out of memory: look for `Out of memory` in dmesg.",
            UNKNOWN,
        )
    return Failure(f"torchrun ended with status {code}{_who(summary)}; the log says: {said}", f"Read {log}.", UNKNOWN)


def _without_summary(lines: List[str]) -> Tuple[List[str], List[str]]:
    """Divide what the ranks said last from what torchrun says about their end."""
    first = next((number for number, line in enumerate(lines) if _SUMMARY.search(line)), len(lines))
    return lines[:first], lines[first:]


def _who(summary: List[str]) -> str:
    """Return which rank ended first, and how, where torchrun's summary tells."""
    found = _FIRST.search("\n".join(summary))
    return f" because rank {found.group(1)} ended with {found.group(2)}" if found else ""


def names_error(line: str) -> bool:
    """Say whether a line is the last of a traceback, apart from the one by which torchrun sums up."""
    return bool(_ERROR_LINE.match(line)) and "ChildFailedError" not in line and "SignalException" not in line


def primary(failures: Iterable[Failure]) -> Optional[Failure]:
    """Return the failure to report: the one most likely to be the cause; among equals the first."""
    ranked = list(failures)
    return max(ranked, key=lambda failure: failure.weight) if ranked else None
