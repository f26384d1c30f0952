# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Debian mirror the lab's images come from: the one that this machine's own apt uses, proxies included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.shell import attempt

DEFAULT_MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"


@dataclass(frozen=True)
class Source:
    """One line or stanza of apt's sources: where, and which suites and components of it."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]


def parse_one_line(text: str) -> Iterator[Source]:
    """Read the one-line format (`deb [options] uri suite component...`)."""
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", " ", line.partition("#")[0]).split()
        if len(words) >= 4 and words[0] == "deb":
            yield Source(words[1].rstrip("/"), (words[2],), tuple(words[3:]))


def parse_deb822(text: str) -> Iterator[Source]:
    """Read the stanza format (`Types: deb`, `URIs: ...`), one Source for each address; disabled stanzas are skipped."""
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        for uri in fields.get("uris", "").split():
            yield Source(
                uri.rstrip("/"), tuple(fields.get("suites", "").split()), tuple(fields.get("components", "").split())
            )


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[name] = f"{fields.get(name, '')} {line.strip()}"
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def choose_mirror(sources: list[Source]) -> str:
    """Return the first http(s) source that has the suite with its main component, else Debian's own address."""
    for source in sources:
        if source.uri.startswith(("http://", "https://")) and SUITE in source.suites and "main" in source.components:
            return source.uri
    return DEFAULT_MIRROR


def machine_sources(etc_apt: Path = Path("/etc/apt")) -> list[Source]:
    """Everything that this machine's apt reads packages from, in apt's order."""
    parts = sorted((etc_apt / "sources.list.d").glob("*")) if (etc_apt / "sources.list.d").is_dir() else []
    found: list[Source] = []
    for path in [etc_apt / "sources.list", *parts]:
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".sources":
            found.extend(parse_deb822(text))
        elif path.suffix == ".list":
            found.extend(parse_one_line(text))
    return found


def proxy_settings() -> str:
    """This machine's apt proxy settings, as lines of an apt.conf; empty without a proxy."""
    done = attempt(["apt-config", "dump", "--no-empty", "--format", '%f "%v";%n', "Acquire"])
    lines = done.stdout.decode(errors="replace").splitlines()
    return "".join(f"{line}\n" for line in lines if re.match(r"Acquire::https?::(?:.*::)?Proxy ", line))


def proxy_environment(settings: str) -> dict[str, str]:
    """The same as variables for debootstrap, whose downloader does not read apt.conf."""
    found = re.findall(r'^Acquire::(https?)::Proxy "([^"]+)";$', settings, re.MULTILINE)
    return {f"{scheme}_proxy": address for scheme, address in found if address != "DIRECT"}
