"""The command line as a user meets it: in a folder of its own, without torch, without a hub."""

from __future__ import annotations

from pathlib import Path

import made_up
import pytest
from command_line import QUESTIONS, CommandLine, make_model, write_csv
from huggingface_hub import constants

from lplan.planner import tracer
from lplan.planner.recipe import Recipe

_REAL_TRACE = tracer._trace


@pytest.fixture(autouse=True)
def traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """What was traced so far; made-up footprints stand in for the real ones."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return made_up.install(monkeypatch, tmp_path / "cache")


@pytest.fixture
def lplan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Runs a command line in the current folder, which is `lplan.folder / "work"` and empty."""
    return CommandLine(tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="session")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def model(_model: Path, tmp_path: Path) -> Path:
    """A model folder of this test's own."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for file in _model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data file of 40 questions and answers."""
    return write_csv(tmp_path / "questions.csv", QUESTIONS)


@pytest.fixture
def real_tracing(traced: list[Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracing process, with torch and all."""
    monkeypatch.setattr(tracer, "_trace", _REAL_TRACE)
