# SPDX-License-Identifier: GPL-3.0-or-later
"""The latest progress of long work, in a file, for whoever follows it.

Workers write the same form themselves (FLEET_PROGRESS); this is for work that has no worker.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import Any, Callable, Dict, Iterator

from .host import Host

PROGRESS = ".progress"  # below a stage's directory
EVERY = 1.0  # seconds; what is over sooner shows nothing


def progress_line(doing: str, done: int, total: int, new: int, seconds: float) -> Dict[str, Any]:
    """Return progress in bytes: `new` of `done` came in so many `seconds`. `eta_s` is None where nothing came yet."""
    rate = new / max(seconds, 1e-6)
    return {
        "doing": doing,
        "progress": round(done / total, 4) if total else 1.0,
        "done": done,
        "total": total,
        "unit": "bytes",
        "rate": round(rate, 1),
        "eta_s": round(max(total - done, 0) / rate, 1) if rate else None,
    }


@contextlib.contextmanager
def measured(
    host: Host, path: str, doing: str, total: int, measure: Callable[[], int], every: float = EVERY
) -> Iterator[None]:
    """While the block runs, write into `path` what `measure` says of `total` bytes (0: not known); the file goes with the block."""
    over = threading.Event()

    def tell() -> None:
        started, first = time.monotonic(), measure()
        while not over.wait(every):
            done = measure()
            line = progress_line(doing, done, total, done - first, time.monotonic() - started)
            with contextlib.suppress(OSError):  # a full disk is for the work itself to report
                host.write_text(path, json.dumps(line) + "\n")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
        host.remove(path)
