# SPDX-License-Identifier: GPL-3.0-or-later
"""npu-smi: which question the command line asks, and with which status it ends."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from lab_driver import ask, lists, table
from lab_driver.view import IN_USE, NO_DEVICE

INVALID_PARAMETER = -8001
USAGE = """\
Command or option is not found.
Usage: npu-smi <Command|-h|-v> [Options...]

npu-smi Command:
	-h            This command's help information
	--help        This command's help information
	-v            Show npu-smi version information
	info          Show hardware details"""
REFUSALS = {
    NO_DEVICE: "DrvMngGetConsoleLogLevel failed. (ret=4)\ndcmi module initialize failed. ret is -8005",
    IN_USE: (
        "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
        "dcmi model initialized failed, because the device is used. ret is -8020"
    ),
}


def answer(arguments: List[str]) -> Tuple[str, int]:
    """What the command prints on its standard output, and its exit status (a code's low byte)."""
    options = _options(arguments)
    if options is None:
        return USAGE, _status(INVALID_PARAMETER)
    try:
        view = ask.view("npu-smi")
    except ask.NoDriver:
        return REFUSALS[NO_DEVICE], _status(NO_DEVICE)
    if view["error"] is not None:
        return REFUSALS[view["error"]], _status(view["error"])
    if "-v" in options:
        return f"npu-smi version: {view['versions']['tool']}", 0
    if "-l" in options:
        return lists.listing(view), 0
    if "-m" in options:
        return lists.mapping(view), 0
    if "-t" in options:
        return _detail(view, options)
    return table.overview(view, ask.process_root()), 0


def _detail(view: Dict[str, Any], options: Dict[str, str]) -> Tuple[str, int]:
    chips = [row for row in view["npus"] if str(row["id"]) == options["-i"]]
    if not chips:
        return "Invalid card id.", _status(INVALID_PARAMETER)
    if "-c" in options:
        chips = [row for row in chips if str(row["chip"]) == options["-c"]]
        if not chips:
            return "Invalid chip id.", _status(INVALID_PARAMETER)
    return lists.detail(options["-t"], view, chips, "-c" in options), 0


def _options(arguments: List[str]) -> Optional[Dict[str, str]]:
    """The options with their values, None for a command line that npu-smi does not know."""
    if arguments == ["-v"]:
        return {"-v": ""}
    if arguments[:1] != ["info"]:
        return None
    rest = arguments[1:]
    if rest in (["-l"], ["-m"], []):
        return dict.fromkeys(rest, "")
    if len(rest) % 2:
        return None
    options = dict(zip(rest[::2], rest[1::2]))
    known = set(options) <= {"-t", "-i", "-c"} and {"-t", "-i"} <= set(options)
    return options if known and options["-t"] in (*lists.KINDS, "board") else None


def _status(code: int) -> int:
    return code & 0xFF
