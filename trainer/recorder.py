"""The only writer of events.jsonl."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from ..planner.events import Event, Note, to_line
from ..profiles.errors import LplanError


class Recorder:
    """Writes each event as one line at once, then shows it.

    A disk that fills up ends the record, not the run: that is noted once, to the viewer only.
    """

    def __init__(self, path: Path, on_event: Callable[[Event], object]) -> None:
        self._on_event = on_event
        try:
            self._file: TextIO | None = path.open("a", encoding="utf-8")
        except OSError as error:
            raise LplanError(f"cannot write {path}: {error.strerror}") from error

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def __call__(self, event: Event) -> None:
        """Write `event`, then hand it to the viewer."""
        if self._file is not None:
            try:
                self._file.write(to_line(event))
                self._file.flush()
            except OSError as error:
                path = self._file.name
                self._close()
                self._on_event(Note(t_s=event.t_s, text=f"{path} is no longer written: {error.strerror}"))
        self._on_event(event)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:  # what could not be flushed above still cannot
                return
