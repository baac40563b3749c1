"""A run's page: complete, closed to the network, its figures those of the JSON, nothing in it taken as markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lplan.planner.documents import write_plan
from lplan.planner.events import Note, Start, to_line
from lplan.planner.record import read_record, record_document
from lplan.profiles.errors import UsageError
from lplan.profiles.units import gib
from lplan.report.charts import memory_chart, picture
from lplan.report.markdown import markdown
from lplan.report.page import page

from . import samples

HOSTILE = '<script>alert("x")</script> & | </script>'
VOID = {"meta", "path", "line", "circle"}


class Reader(HTMLParser):
    """Text outside scripts, the elements, and what stays open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.text += data + " "


def folder(path: Path, *more: Any) -> Path:
    path.mkdir()
    events = [*samples.run_events(), *more]
    (path / "events.jsonl").write_text("".join(map(to_line, events)), encoding="utf-8")
    write_plan(replace(samples.PLAN, estimate=samples.SMOLLM2_2G), path / "plan.json")
    return path


def test_the_figures_of_the_page_are_those_of_the_document(tmp_path: Path) -> None:
    document = record_document(read_record(folder(tmp_path / "run")))
    read = Reader(page(document))
    assert read.open == []
    assert json.loads(read.scripts[0]) == json.loads(json.dumps(document))
    peaks = {peak["name"]: peak["rss_bytes"] for peak in document["measured"]}
    assert set(peaks) == {"import", "load", "wrap", "first step", "steady step", "evaluation", "save"}
    for phase in document["plan"]["estimate"]["phases"]:
        row = f"{phase['name']} {gib(phase['peak']['expected_bytes'])} "
        assert row in read.text
        assert gib(peaks[phase["name"]]) in read.text.split(row)[1][:40]
    assert [found["id"] for tag, found in read.seen if tag == "svg"] == ["memory", "loss", "speed"]


def test_the_page_asks_nothing_of_a_network(tmp_path: Path) -> None:
    text = page(record_document(read_record(folder(tmp_path / "run"))))
    assert not re.search(r"https?://|url\(|@import|\bsrc=", text)
    assert "default-src 'none'" in text


def test_what_a_run_says_is_never_markup(tmp_path: Path) -> None:
    start = next(event for event in samples.run_events() if isinstance(event, Start))
    path = folder(tmp_path / "run", Note(t_s=93.0, text=HOSTILE), replace(start, model=HOSTILE))
    record = read_record(path)
    record = replace(record, events=tuple(reversed(record.events)), evaluation={HOSTILE: HOSTILE})
    document = record_document(record)
    read = Reader(page(document))
    assert HOSTILE in read.text
    assert len([tag for tag, _ in read.seen if tag == "script"]) == 2
    assert "<script" not in markdown(document)


def test_the_memory_graph_is_a_picture_of_its_own(tmp_path: Path) -> None:
    document = record_document(read_record(folder(tmp_path / "run")))
    drawing = ElementTree.fromstring(picture(memory_chart(document)))
    lines = [line.get("class") for line in drawing.iter("{http://www.w3.org/2000/svg}line")]
    assert lines.count("plan") == lines.count("limit") == 1


def test_a_run_without_plan_samples_and_end_still_has_a_page(tmp_path: Path) -> None:
    start = next(event for event in samples.run_events() if isinstance(event, Start))
    (tmp_path / "events.jsonl").write_text(to_line(start) + '{"kind": "metr', encoding="utf-8")
    document = record_document(read_record(tmp_path))
    read = Reader(page(document))
    assert read.open == []
    assert "no end recorded" in read.text
    assert "no end recorded" in markdown(document)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no events\.jsonl"):
        read_record(tmp_path)
