"""Golden files: what a view looks like, character by character, at a fixed width.

LPLAN_REGEN=1 rewrites them; the diff is the review.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

FOLDER = Path(__file__).parent / "golden"


def render(renderable: RenderableType, *, width: int = 80, height: int = 24, encoding: str = "utf-8") -> str:
    """The text of a renderable without colour, trailing blanks cut."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    console = Console(file=file, width=width, height=height, color_system=None, legacy_windows=False)
    console.print(renderable)
    file.flush()
    return "".join(line.rstrip() + "\n" for line in raw.getvalue().decode(encoding).splitlines())


@pytest.fixture(name="render")
def render_fixture() -> Callable[..., str]:
    """`render(renderable, width=80, height=24, encoding="utf-8")`."""
    return render


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """`golden(name, text)` compares with golden/<name>.txt."""

    def check(name: str, text: str) -> None:
        path = FOLDER / f"{name}.txt"
        if os.environ.get("LPLAN_REGEN"):
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path.name} is missing: run with LPLAN_REGEN=1 and review it"
        assert text == path.read_text(encoding="utf-8")

    return check
