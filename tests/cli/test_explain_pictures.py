"""`lplan explain` as pictures."""

from __future__ import annotations

import sys

import pytest

MODEL = ("explain", "--model", "tinyllama", "--ram", "8G")


def test_a_chart_beside_the_table_and_beside_the_document(lplan):
    result = lplan(*MODEL, "--svg", "walk.svg")
    assert result.status == 0
    svg = (lplan.folder / "work" / "walk.svg").read_text()
    assert svg.startswith("<svg ")
    assert "full fine-tuning" in svg
    again = lplan(*MODEL, "--svg", "again.svg", "--json")
    assert again.document["schema"] == "lplan.explain/1"
    assert (lplan.folder / "work" / "again.svg").read_text() == svg


def test_a_png(lplan):
    pytest.importorskip("PIL")
    assert lplan(*MODEL, "--png", "walk.png").status == 0
    assert (lplan.folder / "work" / "walk.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_without_pillow_a_png_is_refused_before_any_work(lplan, monkeypatch, traced):
    monkeypatch.setitem(sys.modules, "PIL", None)
    error, hint = lplan(*MODEL, "--png", "walk.png").refused(1)
    assert error == "--png needs the package pillow, which is not installed"
    assert "lplan[png]" in hint
    assert traced == []
