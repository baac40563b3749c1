"""Plans as people see them, and the refusal when nothing fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lplan.planner.plan import Advice, Decision, Rejected
from lplan.report.plan import no_plan_view, plan_view

from .samples import CLOSEST, PLAN

SUGGESTIONS = ("--ram 2.7G", "a smaller model: smollm2-360m needs 1.02 GiB")
MISSES_BYTES = CLOSEST.estimate.peak.required_bytes - CLOSEST.estimate.budget.budget_bytes


@pytest.mark.parametrize("width", [80, 120])
def test_golden_plan(golden, render, width):
    golden(f"plan_{width}", render(plan_view(PLAN), width=width))


@pytest.mark.parametrize("width", [80, 120])
def test_golden_no_plan(golden, render, width):
    golden(f"no_plan_{width}", render(no_plan_view(CLOSEST, MISSES_BYTES, SUGGESTIONS), width=width))


def test_a_plan_without_a_time_promises_none(render):
    assert "takes" in render(plan_view(PLAN))
    assert "takes" not in render(plan_view(replace(PLAN, time=None)))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_word_of_every_decision_is_shown(render, width):
    decision = Decision(
        knob="threads",
        value="all-of-them[2]",
        reason="a [reason] that is rather long, longer than any column here",
        rejected=(Rejected(value="one", reason="half as fast"), Rejected(value="none", reason="impossible")),
        given=True,
    )
    words = render(plan_view(replace(PLAN, decisions=(decision,))), width=width).replace("\n", " ")
    for word in ("threads", "given:", "[reason]", "longer", "column", "one:", "half", "none:", "impossible"):
        assert word in words


def test_no_plan_without_suggestions_has_no_empty_list(render):
    assert "what would make it fit" not in render(no_plan_view(CLOSEST, MISSES_BYTES, ()))


def test_what_is_worth_knowing_comes_last_with_its_source(render):
    advice = Advice(
        topic="alpha", text="alpha 1 is low", reason="it scales", source="Hu 2021, arXiv:2106.09685"
    )
    shown = render(plan_view(replace(PLAN, guidance=(advice,)))).splitlines()
    assert shown[-2:] == [
        "worth knowing (nothing was changed for it)",
        "• alpha 1 is low. It scales. [Hu 2021, arXiv:2106.09685]",
    ]
    assert "worth knowing" not in render(plan_view(PLAN))
