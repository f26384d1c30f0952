# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages in a real browser: they show something, fit the window, follow dark mode, print, and load nothing."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.unit.report import given

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
WIDE, NARROW = 1280, 500  # pixels; 500 is the narrowest window that a browser makes
POLICY = """default-src 'none'; style-src 'unsafe-inline'; img-src data:"""
# The page may run nothing; to be measured it has to, and nothing else. What it tries to load is refused and written down.
CLOSED = f'content="{POLICY}"/>'
OPENED = f"""content="{POLICY}; script-src 'unsafe-inline'"/><script>
window.refused = [];
document.addEventListener('securitypolicyviolation', event => refused.push(event.blockedURI));
</script>"""
# What only the browser knows, written where --dump-dom shows it.
MEASURE = """<script>
const box = element => element.getBoundingClientRect();
const page = document.documentElement;
// Once everything that the page asks for was answered or refused.
addEventListener('load', () => { page.dataset.seen = JSON.stringify({
  overflow: page.scrollWidth - page.clientWidth,
  refused: window.refused,
  background: getComputedStyle(document.body).backgroundColor,
  pictures: [...document.querySelectorAll('svg')].map(svg => [svg.classList[0], box(svg).width, box(svg).height]),
  outside: [...document.querySelectorAll('svg text')].filter(text => {
    const frame = box(text.closest('svg')), own = box(text);
    return own.right > frame.right + 2 || own.left < frame.left - 2 || own.bottom > frame.bottom + 4;
  }).map(text => text.textContent),
}); });
</script>"""

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="chromium is absent (python3 scripts/setup browser installs it)"),
    pytest.mark.xdist_group("browser"),  # one at a time: a browser has many processes
]


@dataclass
class Browser:
    """A browser with a profile of its own."""

    directory: Path

    def run(self, page: str, width: int, *flags: str) -> str:
        """Open a page in a window of this width and return what the browser prints."""
        file = self.directory / "page.html"
        file.write_text(page, encoding="utf-8")
        profile = self.directory / f"profile-{len(list(self.directory.iterdir()))}"
        argv = [
            str(CHROMIUM),
            *FLAGS,
            f"--user-data-dir={profile}",
            f"--window-size={width},1600",
            *flags,
            file.as_uri(),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=180)
        return done.stdout

    def measure(self, page: str, width: int, *flags: str) -> dict[str, Any]:
        """Return what MEASURE sees."""
        assert page.count(CLOSED) == 1
        opened = page.replace(CLOSED, OPENED).replace("</body>", f"{MEASURE}</body>")
        dom = self.run(opened, width, "--dump-dom", *flags)
        found = re.search(r'data-seen="([^"]*)"', dom)
        assert found, dom[:2000]
        seen: dict[str, Any] = json.loads(unescape(found[1]))
        return seen

    def picture(self, page: str, width: int, *flags: str) -> tuple[int, int, int]:
        """Take a screenshot; return its width, height and how many different rows of pixels it has."""
        target = self.directory / "shot.png"
        self.run(page, width, f"--screenshot={target}", *flags)
        return different_rows(target.read_bytes())


def different_rows(png: bytes) -> tuple[int, int, int]:
    """Return width, height and the number of different rows of a PNG, each row as it is stored (filtered)."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, width, height, data = 8, 0, 0, b""
    while at < len(png):
        (length,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height = struct.unpack(">II", body[:8])
        elif kind == b"IDAT":
            data += body
        at += 12 + length
    raw = zlib.decompress(data)
    line = len(raw) // height
    return width, height, len({raw[number * line : (number + 1) * line] for number in range(height)})


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    return Browser(tmp_path)


def pages() -> dict[str, str]:
    small, large = given.small_plan(), given.large_plan()
    failed = given.run_piece(["npu-1", "npu-2"], failed="Train the model")
    return {
        "two hosts": given.call("report_page", given.report(small)),
        "64 hosts": given.call("report_page", given.report(large)),
        "failed": given.call("report_page", given.report(small, run=failed, hosts=None)),
        "plan": given.call("plan_page", large),
    }


PAGES = pages()


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", list(PAGES))
def test_it_fits_the_window_and_loads_nothing(browser: Browser, name: str, width: int) -> None:
    seen = browser.measure(PAGES[name], width)
    assert seen["overflow"] == 0, "only wide tables and pictures scroll, each for itself"
    assert seen["refused"] == [], "the page asks for nothing from anywhere"
    assert seen["outside"] == [], "no label leaves its picture"
    assert seen["pictures"]
    assert all(wide > 40 and high > 10 for _, wide, high in seen["pictures"])


def test_what_would_be_wrong_is_seen(browser: Browser) -> None:
    """The checks above are worth something: each sees the fault that it is for."""
    wrong = PAGES["two hosts"].replace(
        "</header>", '<div style="width: 3000px">x</div><img src="https://192.0.2.1/x.png"/></header>'
    )
    seen = browser.measure(wrong.replace('class="strong" x="', 'class="strong" x="9'), WIDE)
    assert seen["overflow"] > 1000
    assert seen["refused"] == ["https://192.0.2.1/x.png"]
    assert seen["outside"]


def test_it_follows_the_colours_of_the_system(browser: Browser) -> None:
    light = browser.measure(PAGES["two hosts"], WIDE)["background"]
    dark = browser.measure(PAGES["two hosts"], WIDE, "--blink-settings=preferredColorScheme=0")["background"]
    brightness = [sum(int(part) for part in re.findall(r"\d+", color)[:3]) for color in (light, dark)]
    assert brightness[0] > 700
    assert brightness[1] < 120


def test_a_screenshot_shows_it(browser: Browser) -> None:
    width, height, rows = browser.picture(PAGES["two hosts"], WIDE)
    assert (width, height) == (WIDE, 1600)
    assert rows > 300, "text and pictures make most rows different from each other"
    assert browser.picture("<!DOCTYPE html><html><body></body></html>", WIDE)[2] < 5, "what a blank page gives"


def test_it_prints(browser: Browser) -> None:
    target = browser.directory / "report.pdf"
    browser.run(PAGES["64 hosts"], WIDE, f"--print-to-pdf={target}", "--no-pdf-header-footer")
    pdf = target.read_bytes()
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12
