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
from lplan.planner.evaluation import Evaluated, Loss, SampleAnswer, Score, Share
from lplan.planner.events import SCHEMA, Answer, Metric, Note, Sample, Start, to_line
from lplan.planner.record import read_record, record_document
from lplan.profiles.errors import UsageError
from lplan.profiles.units import gib
from lplan.report.markdown import markdown
from lplan.report.memory_picture import memory_picture
from lplan.report.page import attempt_rows, page
from lplan.report.picture import png_bytes, svg_text

from . import samples

HOSTILE = '<script>alert("x")</script> & | </script>'
EVALUATED = Evaluated(
    model="tiny", task="banking77", labels=77, loss=Loss(samples=300, after=0.093, before=7.645),
    scored=Score(
        after=Share(right=271, of=300, low=0.86, high=0.93), before=Share(right=32, of=300, low=0.08, high=0.15)
    ),
    generated=None, knowledge=None, max_forgetting=0.05, latency=None, samples=(), seconds=9.0,
)  # fmt: skip
ASKED = Answer(t_s=90.0, step=40, request=HOSTILE, wanted=HOSTILE, text=HOSTILE)
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
    path = folder(tmp_path / "run", Note(t_s=93.0, text=HOSTILE), ASKED)
    record = read_record(path)
    answer = SampleAnswer(request=HOSTILE, wanted=HOSTILE, after=HOSTILE, before=HOSTILE)
    evaluated = replace(EVALUATED, model=HOSTILE, task=HOSTILE, samples=(answer,)).document()
    events = (replace(e, model=HOSTILE) if isinstance(e, Start) else e for e in record.events)
    record = replace(record, events=tuple(events), evaluation=evaluated)
    document = record_document(record)
    read = Reader(page(document))
    assert read.text.count(HOSTILE) >= 9
    assert len([tag for tag, _ in read.seen if tag == "script"]) == 2
    assert "<script" not in markdown(document)


def test_the_memory_graph_is_a_picture_of_its_own(tmp_path: Path) -> None:
    document = record_document(read_record(folder(tmp_path / "run")))
    picture = memory_picture(document)
    assert picture is not None
    drawing = ElementTree.fromstring(svg_text(picture))
    areas = {
        area.get("class"): [float(point.split(",")[1]) for point in str(area.get("points")).split()]
        for area in drawing.iter("{http://www.w3.org/2000/svg}polygon")
    }
    words = " ".join(text.text or "" for text in drawing.iter("{http://www.w3.org/2000/svg}text"))
    start = document["start"]
    assert f"planned peak {gib(start['planned_peak_bytes'])} GiB" in words
    assert f"limit {gib(start['budget_bytes'])} GiB" in words
    heights = {
        line.get("class"): float(line.get("y2") or 0)
        for line in drawing.iter("{http://www.w3.org/2000/svg}line")
    }
    peak, limit = max(s["rss_bytes"] for s in document["samples"]), start["budget_bytes"]
    floor, highest = max(areas["file"]), min(areas["anonymous"])
    assert (floor - highest) / (floor - heights["budget"]) == pytest.approx(peak / limit, rel=0.01)


def test_the_same_picture_is_written_in_pixels(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    import io

    picture = memory_picture(record_document(read_record(folder(tmp_path / "run"))))
    assert picture is not None
    drawn = image.open(io.BytesIO(png_bytes(picture)))
    assert drawn.size == (2 * picture.width, 2 * picture.height)
    colours = {colour for _, colour in drawn.getcolors(1 << 16)}
    assert {(0x25, 0x63, 0xA8), (0x9C, 0xC3, 0xE6), (0xCF, 0x22, 0x2E)} <= colours


def test_what_was_asked_before_and_after_is_told_with_its_intervals(tmp_path: Path) -> None:
    record = replace(read_record(folder(tmp_path / "run")), evaluation=EVALUATED.document())
    document = record_document(record)
    for text in (Reader(page(document)).text, markdown(document).replace(" | ", "  ")):
        assert re.search(r"scored, of 77\s+300\s+10\.7 % \(8–15\)\s+90\.3 % \(86–93\)", text)
    assert "damaged" in page({**document, "evaluation": {"schema": "lplan.evaluate/1"}})


def test_every_attempt_is_told_with_what_it_lost(tmp_path: Path) -> None:
    """Killed after step 5 with a checkpoint after 4, gone on smaller, interrupted after 7, resumed from there."""
    tiny = Start(
        t_s=0.0, schema=SCHEMA, run="run", model="tiny", budget_bytes=2 << 30, limiter="rlimit",
        planned_peak_bytes=3 << 29, total_steps=9, time="2026-11-24T02:00:00+00:00",
    )  # fmt: skip
    metrics = [
        Metric(t_s=t, step=step, loss=1.0, learning_rate=None, tokens=9, step_s=1.0)
        for t, step in ((1, 4), (2, 5), (11, 5), (12, 6), (13, 7), (21, 8), (22, 9))
    ]
    sample = Sample(t_s=2.5, rss_bytes=2 << 30, anonymous_bytes=2 << 30, file_bytes=0, swap_bytes=0)
    events = [
        tiny, *metrics[:2], sample, Note(t_s=3.0, text="killed at its limit; goes on from the last checkpoint with 1"),
        replace(tiny, t_s=10.0, planned_peak_bytes=1 << 30), *metrics[2:5],
        replace(samples.DONE, t_s=14.0, verdict="interrupted", explanation="asked to end"),
        replace(tiny, t_s=20.0, planned_peak_bytes=1 << 30), *metrics[5:], replace(samples.DONE, t_s=23.0),
    ]  # fmt: skip
    (tmp_path / "events.jsonl").write_text("".join(map(to_line, events)), encoding="utf-8")
    document = record_document(read_record(tmp_path))
    found = [(a["first_step"], a["last_step"], a["repeated"]) for a in document["attempts"]]
    assert found == [(4, 5, 0), (5, 7, 1), (8, 9, 0)]
    assert [a["measured_peak_bytes"] for a in document["attempts"]] == [2 << 30, None, None]
    metrics = {m["step"] for m in document["metrics"]}
    assert len(metrics) < len(document["metrics"])
    curve = next(a for tag, a in Reader(page(document)).seen if tag == "path" and a["class"] == "curve")
    across = [float(point.split(",")[0]) for point in str(curve["d"])[1:].split("L")]
    assert across == sorted(across)
    assert len(across) == len(metrics)
    rows = list(attempt_rows(document))
    assert rows[0]["how it ended"].startswith("killed at its limit; goes on")
    assert rows[1]["how it ended"] == "asked to end"
    assert "Attempts, GiB" in page(document)
    assert "| 5 to 7 | 1 | asked to end |" in markdown(document)


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
