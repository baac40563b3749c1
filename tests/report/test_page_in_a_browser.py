"""A run's page as a browser shows it: without complaints, its charts drawn, on a phone and in the dark."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lplan.planner.record import read_record, record_document
from lplan.report.page import page

from .test_page import folder

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

PROBE = """<script>
const seen = {
  width: innerWidth, content: document.documentElement.scrollWidth,
  background: getComputedStyle(document.body).backgroundColor,
  charts: [...document.querySelectorAll("svg")].map(s => [s.id, s.getBoundingClientRect().width,
    s.getBoundingClientRect().height, Math.max(...[...s.querySelectorAll("path")].map(p => p.getBBox().width))]),
};
const note = document.createElement("pre");
note.id = "seen";
note.textContent = JSON.stringify(seen);
document.body.append(note);
</script></body>"""

Visit = Callable[..., tuple[str, str]]


@pytest.fixture
def visit(tmp_path: Path) -> Visit:
    """(document, console) of a page after it was loaded."""

    def load(text: str, width: int = 1280, *more: str) -> tuple[str, str]:
        file = tmp_path / "page.html"
        file.write_text(text, encoding="utf-8")
        assert BROWSER is not None
        done = subprocess.run(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
             f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", *more, "--dump-dom",
             file.as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)

    return load


@pytest.fixture
def text(tmp_path: Path) -> str:
    return page(record_document(read_record(folder(tmp_path / "run"))))


def probed(visit: Visit, text: str, width: int, *more: str) -> dict[str, Any]:
    """What a script sees in the page, once its policy lets one in."""
    opened = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert opened != text
    found, _ = visit(opened.replace("</body>", PROBE), width, *more)
    match = re.search(r'<pre id="seen">(.*?)</pre>', found)
    assert match is not None
    return dict(json.loads(html.unescape(match[1])))


def test_it_loads_without_a_complaint_and_says_what_the_json_says(visit: Visit, text: str) -> None:
    found, console = visit(text)
    assert console == ""
    data = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', found, re.DOTALL)
    assert data is not None
    peak = max(measured["rss_bytes"] for measured in json.loads(data[1])["measured"])
    assert f"{peak / 2**30:.2f}" in re.sub(r"<script.*?</script>", "", found, flags=re.DOTALL)


@pytest.mark.parametrize("width", [500, 1280])
def test_charts_are_drawn_and_nothing_is_cut_off(visit: Visit, text: str, width: int) -> None:
    seen = probed(visit, text, width)
    assert seen["content"] <= seen["width"]
    assert [name for name, *_ in seen["charts"]] == ["memory", "loss", "speed"]
    for _, wide, high, drawn in seen["charts"]:
        assert wide > 0.7 * min(width, 900)
        assert high > 100
        assert drawn > 100


def test_it_is_dark_where_the_reader_likes_it_dark(visit: Visit, text: str) -> None:
    light, dark = (
        probed(visit, text, 800, f"--blink-settings=preferredColorScheme={scheme}") for scheme in (1, 0)
    )
    assert light["background"] != dark["background"]
    assert sum(map(int, re.findall(r"\d+", dark["background"])[:3])) < 150
