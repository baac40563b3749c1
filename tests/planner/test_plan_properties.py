"""What holds for every plan: any data, any knobs that were given, any objective, any budget."""

from __future__ import annotations

from dataclasses import replace

import made_up
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lplan.planner.aim import Aim
from lplan.planner.documents import read_plan, write_plan
from lplan.planner.plan import DataReference, Schedule
from lplan.planner.planning import make_plan, misses_bytes
from lplan.planner.recipe import Recipe
from lplan.planner.replay import require_memory
from lplan.planner.request import Request, fit_to_data
from lplan.planner.search import EQUALLY_FAST
from lplan.planner.tokens import TokenLengths
from lplan.profiles.errors import DoesNotFitError
from lplan.profiles.units import MIB

SOME = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
DATA = DataReference(location="demo", task=None, fingerprint="f" * 64, samples=9, longest_tokens=40)
PRECISIONS = ("bf16", "bf16-amp", "fp32")

dialogues = st.tuples(st.integers(8, 600), st.integers(1, 600)).map(lambda pair: (pair[0], min(pair)))
data_sets = st.lists(dialogues, min_size=1, max_size=40).map(
    lambda pairs: TokenLengths(total=tuple(t for t, _ in pairs), supervised=tuple(s for _, s in pairs))
)
knobs = st.fixed_dictionaries(
    {},
    optional={
        "checkpointing": st.sampled_from(("none", "every-2", "full")),
        "loss": st.sampled_from(("full", "supervised", "chunked")),
        "allocator": st.sampled_from(("pinned", "default")),
        "precision": st.sampled_from(PRECISIONS),
        "optimizer": st.sampled_from(("adamw", "adamw-fused")),
        "method": st.sampled_from(("lora", "full")),
    },
)
objectives = st.sampled_from(("fastest", "longest", "largest-batch", "least-memory", "quality"))
budgets = st.integers(350, 4000).map(lambda mib: mib * MIB)


@st.composite
def tasks(draw):
    """What somebody may want: a task as a command makes it."""
    asked = draw(knobs)
    start = Recipe(batch_size=1, accumulation=draw(st.sampled_from((1, 2, 6, 8))), **asked)
    request = Request(start, Schedule(), frozenset(asked))
    lengths = draw(st.none() | data_sets)
    fitted = fit_to_data(request, lengths).recipe if lengths is not None else start
    task = made_up.task(draw(budgets), recipe=fitted, given=frozenset(asked), lengths=lengths)
    model = replace(task.situation.model, config={**made_up.MODEL.config, "max_position_embeddings": 640})
    return replace(task, situation=replace(task.situation, model=model), aim=Aim(objective=draw(objectives)))


@pytest.fixture(autouse=True)
def _installed(monkeypatch, tmp_path_factory):
    made_up.install(monkeypatch, tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr("lplan.profiles.budget.memory_limits", lambda: ())


def with_more(task, more_bytes):
    budget = made_up.budget(task.situation.budget.budget_bytes + more_bytes)
    return replace(task, situation=replace(task.situation, budget=budget))


def worth(plan, objective):
    """What the objective asks for; more is better."""
    return {
        "fastest": -plan.time.step_s,
        "longest": plan.recipe.seq_len,
        "largest-batch": plan.recipe.batch_size,
        "least-memory": -plan.estimate.peak.required_bytes,
        "quality": PRECISIONS.index(plan.recipe.precision),
    }[objective]


@SOME
@given(tasks())
def test_a_plan_is_what_was_asked_for(task):
    recipe = make_plan(task, None).recipe
    assert {knob: getattr(recipe, knob) for knob in task.given} == {
        knob: getattr(task.start, knob) for knob in task.given
    }
    assert recipe.effective_batch == task.start.effective_batch
    if task.lengths is not None:
        assert recipe.seq_len >= task.lengths.longest
        assert recipe.supervised_len == task.lengths.longest_supervised


@SOME
@given(tasks())
def test_a_plan_fits_by_its_own_estimate_or_says_by_how_much_it_does_not(task):
    plan = make_plan(task, None)
    for phase in plan.estimate.phases:
        assert sum(phase.components.values()) == phase.peak.expected_bytes
        assert phase.peak.low_bytes <= phase.peak.expected_bytes <= phase.peak.high_bytes
    needed = max(phase.required_bytes for phase in plan.estimate.phases)
    assert misses_bytes(plan) == needed - task.situation.budget.budget_bytes
    if needed <= task.situation.budget.budget_bytes:
        require_memory(plan)
    else:
        with pytest.raises(DoesNotFitError, match="does not fit its own budget of"):
            require_memory(plan)


@SOME
@given(tasks(), st.integers(0, 3000).map(lambda mib: mib * MIB))
def test_more_memory_is_never_worse_by_the_objective(task, more_bytes):
    objective = task.aim.objective
    less, more = make_plan(task, None), make_plan(with_more(task, more_bytes), None)
    assert more.estimate.fits or not less.estimate.fits
    if less.estimate.fits:
        assert worth(more, objective) >= worth(less, objective) - (
            EQUALLY_FAST * less.time.step_s if objective == "fastest" else 0
        )


@SOME
@given(tasks(), st.none() | st.just(DATA))
def test_a_plan_comes_back_from_its_file_and_is_made_again_the_same(tmp_path, task, data):
    plan = make_plan(task, data)
    write_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan == make_plan(task, data)


@SOME
@given(tasks())
def test_a_plans_time_is_that_of_its_data(task):
    plan = make_plan(task, None)
    lengths, time = task.lengths, plan.time
    samples = len(lengths.total) if lengths else plan.recipe.effective_batch
    tokens = sum(lengths.total) / samples if lengths else plan.recipe.seq_len
    assert time.tokens_per_s * time.step_s == pytest.approx(plan.recipe.effective_batch * tokens)
    assert time.total_s == pytest.approx(time.steps * time.step_s)
    assert time.steps * plan.recipe.effective_batch >= task.schedule.epochs * samples
