# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of one JSON array, which may be larger than memory. What is not exactly one array is refused: a part would be lost."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any, BinaryIO, Iterator

from _common import WorkerError

LARGEST_RECORD = 1 << 28
BLANK = re.compile(r"[ \t\r\n]*")
LONGEST_TAIL = 4  # "1e+" may go on as a number: so near to the end of what was read, only more text tells


class _Text:
    """A window on the text of a file, read in pieces of ``piece`` bytes. ``at`` is the next character in ``buffer``."""

    def __init__(self, stream: BinaryIO, piece: int) -> None:
        self.buffer, self.at = "", 0
        self._stream, self._piece, self._ended = stream, piece, False
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is not blank, or nothing at the end of the file."""
        while True:
            matched = BLANK.match(self.buffer, self.at)
            self.at = matched.end() if matched else self.at
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self._grow():
                return ""

    def value(self) -> Any:
        """Take one JSON value; json.JSONDecodeError if there is none."""
        while True:
            try:
                value, end = self._json.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError:
                # Either the end of the buffer cuts the value, or it is broken: only more text can tell.
                if len(self.buffer) - self.at >= LARGEST_RECORD or not self._grow():
                    raise
                continue
            cut = not isinstance(value, (dict, list, str)) and len(self.buffer) - end < LONGEST_TAIL
            if not (cut and self._grow()):
                self.at = end
                return value

    def _grow(self) -> bool:
        """Read on, and forget what is taken; at the end of the file nothing changes."""
        if self._ended:
            return False
        data = self._stream.read(max(self._piece, len(self.buffer) - self.at))
        self._ended = not data
        more = self._decoder.decode(data, final=self._ended)  # at the end, half a character is an error
        if data:
            self.buffer, self.at = self.buffer[self.at :] + more, 0
        return bool(data)


def objects(path: Path, stream: BinaryIO, piece: int) -> Iterator[Any]:
    """Yield the records of the array that ``stream`` holds, and nothing else; WorkerError names the record."""
    text, number = _Text(stream, piece), 1
    text.peek()
    text.at += 1  # the bracket by which the file was taken for an array
    if text.peek() != "]":
        yield _record(path, text, number)
        while text.peek() == ",":
            text.at += 1
            number += 1
            yield _record(path, text, number)
    if text.peek() != "]":
        found = repr(text.peek()) if text.peek() else "the end of the file"
        raise WorkerError(
            f"{path}, after record {number}, is not JSON: there is {found} and no comma or closing bracket",
            "Repair the file.",
        )
    text.at += 1
    if text.peek():
        raise WorkerError(
            f"{path} goes on with {text.peek()!r} after the end of its array",
            "Make one array of it, or one file of each; only .jsonl files may be put one behind the other.",
        )


def _record(path: Path, text: _Text, number: int) -> Any:
    place = f"{path}, record {number}, is not JSON"
    if text.peek() in (",", "]"):
        raise WorkerError(f"{place}: there is nothing before {text.peek()!r}", "Repair the file.")
    try:
        return text.value()
    except json.JSONDecodeError as error:
        raise WorkerError(f"{place}: {error.msg}", "Repair the file.") from None
    except UnicodeDecodeError:
        raise  # of the file, not of this record
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets in brackets
        raise WorkerError(
            f"{path}, record {number}, cannot be read: {error}",
            "Repair the file, or write one record a line as .jsonl.",
        ) from None
