# SPDX-License-Identifier: GPL-3.0-or-later
"""Which mirror the lab's images come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import apt

STANZAS = """\
# comment
Types: deb deb-src
URIs: https://mirror.example.org/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/x.gpg

Types: deb
Enabled: no
URIs: http://disabled.example.org/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://one.example.org/debian
 http://two.example.org/debian
Suites: trixie
Components: main
"""


def write(directory: Path, files: dict[str, str]) -> Path:
    """An /etc/apt with these files."""
    (directory / "sources.list.d").mkdir()
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def test_stanzas_give_one_source_per_address_and_skip_disabled_ones() -> None:
    found = list(apt.parse_deb822(STANZAS))
    assert [source.uri for source in found] == [
        "https://mirror.example.org/debian",
        "http://one.example.org/debian",
        "http://two.example.org/debian",
    ]
    assert found[0].suites == ("bookworm", "bookworm-updates")
    assert found[0].components == ("main", "contrib")


def test_lines_may_have_options_and_comments() -> None:
    text = (
        "# deb http://no.example.org/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://a.example.org/debian bookworm main # ours\n"
        "deb-src http://b.example.org/debian bookworm main\n"
        "deb http://c.example.org/debian-security bookworm-security main\n"
    )
    uris = [source.uri for source in apt.parse_one_line(text)]
    assert uris == ["http://a.example.org/debian", "http://c.example.org/debian-security"]


@pytest.mark.parametrize(
    ("files", "mirror"),
    [
        ({"sources.list": "deb http://a.example.org/debian bookworm main\n"}, "http://a.example.org/debian"),
        ({"sources.list.d/debian.sources": STANZAS}, "https://mirror.example.org/debian"),
        (
            {
                "sources.list": "deb http://s.example.org/debian-security bookworm-security main\n",
                "sources.list.d/x.list": "deb file:/srv/debian bookworm main\ndeb http://b.example.org/d bookworm main\n",
            },
            "http://b.example.org/d",
        ),
        ({"sources.list.d/x.list.bak": "deb http://old.example.org/debian bookworm main\n"}, apt.DEFAULT_MIRROR),
        ({"sources.list": "deb http://a.example.org/debian bookworm contrib\n"}, apt.DEFAULT_MIRROR),
    ],
)
def test_the_mirror_is_the_machines_own(tmp_path: Path, files: dict[str, str], mirror: str) -> None:
    assert apt.choose_mirror(apt.machine_sources(write(tmp_path, files))) == mirror


def test_a_machine_without_apt_takes_debians_own(tmp_path: Path) -> None:
    assert apt.choose_mirror(apt.machine_sources(tmp_path / "none")) == apt.DEFAULT_MIRROR


def test_proxies_become_variables_and_direct_is_none() -> None:
    settings = (
        'Acquire::http::Proxy "http://proxy.example.org:3128";\n'
        'Acquire::http::Proxy::local.example.org "DIRECT";\n'
        'Acquire::https::Proxy "DIRECT";\n'
    )
    assert apt.proxy_environment(settings) == {"http_proxy": "http://proxy.example.org:3128"}
