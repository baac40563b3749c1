"""How an evaluation that does not come to its end is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lplan.planner.events import Outcome, Verdict
from lplan.planner.recipe import Recipe
from lplan.profiles.errors import DoesNotFitError, LplanError
from lplan.trainer import limited_evaluation
from lplan.trainer.evaluation.of_run import Wanted


@pytest.mark.parametrize(
    ("verdict", "kind", "words"),
    [
        ("interrupted", LplanError, "interrupted: the evaluation had not ended"),
        ("out-of-memory", DoesNotFitError, "the evaluation does not fit 2.00 GiB: it broke"),
        ("failed", LplanError, "the evaluation failed: it broke"),
    ],
)
def test_the_end_is_told_as_that_of_an_evaluation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verdict: Verdict, kind: type[LplanError], words: str
) -> None:
    outcome = Outcome(
        t_s=1.0, verdict=verdict, explanation="it broke", hint=None, exit_code=1, phase=None, step=None
    )
    budget, model = SimpleNamespace(budget_bytes=2 << 30), SimpleNamespace(id="tiny")
    plan = SimpleNamespace(recipe=Recipe(), estimate=SimpleNamespace(budget=budget, phases=(), model=model))
    monkeypatch.setattr(limited_evaluation, "require_evaluable", lambda _: None)
    monkeypatch.setattr(limited_evaluation, "read_plan", lambda _: plan)
    monkeypatch.setattr(limited_evaluation, "supervise", lambda *_, **__: outcome)
    with pytest.raises(kind) as told:
        limited_evaluation.evaluate_limited(tmp_path, Wanted(), None, lambda _: None)
    assert str(told.value).startswith(words)
