# SPDX-License-Identifier: GPL-3.0-or-later
"""From records to the texts that are tokenized: keys, templates, the part for validation, and records that cannot be used."""

from __future__ import annotations

import hashlib
import json
import string
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from _common import WorkerError
from _records import Block, Unusable


@dataclass(frozen=True)
class Template:
    """``"{instruction}\\n{output}"``: one text made of several keys. ``fields`` are those keys."""

    text: str
    fields: Tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        try:
            parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
        except ValueError as error:
            raise WorkerError(f"template {text!r}: {error}", "Write a brace that stands for itself twice.") from None
        fields = tuple(dict.fromkeys(str(part[1]) for part in parts))
        odd = [part for part in parts if not str(part[1]).isidentifier() or part[2] or part[3]]
        if odd or not fields:
            raise WorkerError(
                f"template {text!r} names {'something that is no plain key' if odd else 'no key'}",
                "Write keys in braces, for example {instruction}.",
            )
        return cls(text, fields)

    def join(self, values: Dict[str, str]) -> str:
        """The text; nothing at all where all keys are empty."""
        return self.text.format_map(values) if any(values.values()) else ""


@dataclass(frozen=True)
class Selection:
    """What is taken from each record. ``keys`` name the files that are written; with a ``template`` that is one key, which need
    not be in the record. ``validation`` is the share of records that goes into files of its own. With ``tolerant`` a bad
    record is handed back and not raised."""

    keys: Tuple[str, ...]
    template: Optional[Template] = None
    validation: float = 0.0
    tolerant: bool = False

    @property
    def fields(self) -> Tuple[str, ...]:
        """The keys that a record must have."""
        return self.template.fields if self.template else self.keys


@dataclass(frozen=True)
class Reject:
    """A record that cannot be used: where it stands, why not, and itself as far as it can be shown."""

    where: str
    why: str
    record: str


@dataclass
class Documents:
    """The texts of a block. ``texts`` has one list a key; ``validation`` says of each record whether it is for that part."""

    texts: Dict[str, List[str]]
    validation: List[bool] = field(default_factory=list)
    rejects: List[Reject] = field(default_factory=list)


class _BadRecord(Exception):
    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why, remedy)
        self.why = why
        self.remedy = remedy


def documents_of(block: Block, selection: Selection) -> Documents:
    """The documents of a block; a record that cannot be used is named, or with ``tolerant`` handed back."""
    found = Documents({key: [] for key in selection.keys})
    for index, raw in _raw(block):
        try:
            values = _values(_record(raw), selection.fields)
        except _BadRecord as bad:
            if not selection.tolerant:
                raise WorkerError(f"{block.where(index)}{bad.why}", bad.remedy) from None
            found.rejects.append(Reject(block.where(index), bad.why.lstrip(": "), _shown(raw)))
            continue
        found.validation.append(_is_validation(values, selection.validation))
        if selection.template:
            values = {selection.keys[0]: selection.template.join(values)}
        for key, texts in found.texts.items():
            texts.append(values[key])
    return found


def _raw(block: Block) -> Iterator[Tuple[int, Any]]:
    """Records, or for JSONL the bytes of lines that are not blank, with their number in the block."""
    if isinstance(block.payload, list):
        yield from enumerate(block.payload)
        return
    for index, line in enumerate(block.payload.split(b"\n")):
        if line.strip():
            yield index, line


def _shown(raw: Any) -> str:
    if isinstance(raw, Unusable):
        return raw.record
    if isinstance(raw, bytes):
        return raw.decode("utf-8", "replace")
    try:
        return json.dumps(raw, default=str)
    except RecursionError:
        return "(nested too deeply to be shown)"


def _record(raw: Any) -> Any:
    if isinstance(raw, Unusable):
        raise _BadRecord(raw.why, "Quote a field that holds a comma, or remove this record.")
    if not isinstance(raw, bytes):
        return raw
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _BadRecord(f" is not UTF-8: {error}", "Convert the file to UTF-8.") from None
    except json.JSONDecodeError as error:
        raise _BadRecord(
            f" is not JSON: {error}", "Write each record on one line, or all as one array in a .json."
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets in brackets
        raise _BadRecord(f" cannot be read: {error}", "Repair or remove this line.") from None


def _values(record: Any, fields: Sequence[str]) -> Dict[str, str]:
    if not isinstance(record, dict):
        raise _BadRecord(" is not a JSON object", 'Write records as {"key": "text"}.')
    return {key: _text(record, key) for key in fields}


def _text(record: Dict[str, Any], key: str) -> str:
    value = record.get(key)
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as error:
                raise _BadRecord(f": {key} is no valid text: {error}", "Repair this record.") from None
        return value
    if key not in record:
        present = ", ".join(map(str, record)) or "none"
        raise _BadRecord(f" has no key {key} (it has: {present})", "Name keys every record has.")
    kind = "null" if value is None else type(value).__name__
    raise _BadRecord(f": {key} is {kind}, not text", "Make it a string, or remove this record.")


def _is_validation(values: Dict[str, str], share: float) -> bool:
    """Decide by the content, not by the place: neither order nor repetition moves a document into both parts."""
    if not share:
        return False
    digest = hashlib.blake2b("\0".join(values.values()).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2**64
