# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams, events and generators of an NPU, for a processor that finishes each operation before the next one begins."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Event:
    """A moment: `elapsed_time` measures between two of them in milliseconds."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self._moment: float | None = None

    def record(self, stream: object = None) -> None:
        """Remember this moment."""
        self._moment = time.perf_counter()

    def wait(self, stream: object = None) -> None:
        """Do nothing: what came before is done."""

    def synchronize(self) -> None:
        """Do nothing: what came before is done."""

    def query(self) -> bool:
        """Return whether everything before the event is done, which it is."""
        return True

    def elapsed_time(self, end_event: Event) -> float:
        """Return the milliseconds between this event and a later one; RuntimeError unless both were recorded."""
        if self._moment is None or end_event._moment is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time")
        return (end_event._moment - self._moment) * 1000.0


class Stream:
    """An order of operations, of which there is only one here."""

    def __init__(self, device: object = None, priority: int = 0, **_kwargs: object) -> None:
        self.device = torch.device("cpu")

    def wait_stream(self, stream: object) -> None:
        """Do nothing: what came before is done."""

    def wait_event(self, event: object) -> None:
        """Do nothing: what came before is done."""

    def record_event(self, event: Event | None = None) -> Event:
        """Record an event, a new one unless one is given, and return it."""
        event = event or Event()
        event.record()
        return event

    def synchronize(self) -> None:
        """Do nothing: what came before is done."""

    def query(self) -> bool:
        """Return whether everything on the stream is done, which it is."""
        return True


_ONLY = Stream()


def current_stream(device: object = None) -> Stream:
    """Return the one stream."""
    return _ONLY


default_stream = current_stream


def set_stream(chosen: object) -> None:
    """Do nothing: there is one stream."""


@contextmanager
def stream(chosen: object) -> Iterator[None]:
    """Run the block on the one stream."""
    yield


class Generators:
    """The generators of all devices, which are the CPU's: any number finds it."""

    def __getitem__(self, index: int) -> torch.Generator:
        return torch.default_generator

    def __len__(self) -> int:
        return 1
