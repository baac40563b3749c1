"""A finished run as Markdown, to paste into an issue or a note."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..profiles.errors import LplanError
from .page import attempt_rows, evaluation_rows, headline, phase_rows, verdict


def markdown(document: Mapping[str, Any]) -> str:
    """The verdict, the headline figures, the phases, attempts and evaluation of `planner.record.record_document`."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    word, sentence = verdict(document)
    model = document["start"]["model"] if document["start"] else document["run"]
    yield f"### {_plain(model)}: {word}"
    yield ""
    yield _plain(sentence)
    yield ""
    yield from _table([{"figure": name, "value": value} for name, value in headline(document)])
    yield ""
    yield from _table(list(phase_rows(document)))
    if len(document["attempts"]) > 1:
        yield ""
        yield from _table(list(attempt_rows(document)))
    with suppress(LplanError):  # of another version, or damaged
        if document["evaluation"] and (rows := list(evaluation_rows(document["evaluation"]))):
            yield ""
            yield from _table(rows)


def _table(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    if rows:
        yield "| " + " | ".join(rows[0]) + " |"
        yield "|" + " --- |" * len(rows[0])
        for row in rows:
            yield "| " + " | ".join(map(_plain, row.values())) + " |"


def _plain(text: str) -> str:
    """Text that Markdown and the HTML within it take as it is."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(escaped.split())
