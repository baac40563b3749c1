"""What is said of a run's hyper-parameters, against what the papers say of such runs."""

from __future__ import annotations

from dataclasses import replace

import made_up
import pytest

from lplan.planner.documents import read_plan, write_plan
from lplan.planner.guidance import RULES, Case, advise
from lplan.planner.plan import Schedule
from lplan.planner.planning import make_plan
from lplan.planner.recipe import ALL_LINEAR, Recipe
from lplan.planner.tokens import TokenLengths

GPU = {"device": "cuda", "kernel": "flash", "allocator": "default"}
RECIPE = Recipe(rank=16, alpha=32, target_modules=ALL_LINEAR, batch_size=2, accumulation=8)
USUAL = Case(
    recipe=RECIPE,
    schedule=Schedule(learning_rate=2e-4),
    trainable_parameters=40_000_000,
    steps=1875,
    lengths=TokenLengths(total=(300,) * 10_000, supervised=(200,) * 10_000),
)
"""As the papers would have it: all linears, alpha twice the rank, 3 epochs of 10,000 samples, 20 parameters a token."""


def topics(case):
    return [advice.topic for advice in advise(case)]


def with_recipe(**knobs):
    return replace(USUAL, recipe=replace(RECIPE, **knobs))


def with_data(samples, total, supervised, **changes):
    lengths = TokenLengths(total=(total,) * samples, supervised=(supervised,) * samples)
    return replace(USUAL, lengths=lengths, **changes)


def test_a_usual_run_needs_no_advice():
    assert advise(USUAL) == ()
    assert advise(replace(USUAL, lengths=None)) == ()


@pytest.mark.parametrize(
    ("topic", "case"),
    [
        ("rank", replace(USUAL, trainable_parameters=1_000_000)),  # two million tokens with loss
        ("rank", replace(with_recipe(rank=32, alpha=64), trainable_parameters=200_000_000)),
        ("domain", with_data(10_000, 200, 200)),
        ("target modules", with_recipe(target_modules=("attention",))),
        ("target modules", with_recipe(**GPU, target_modules=("attention",), method="qlora", quantization="nf4")),
        ("alpha", with_recipe(alpha=2)),
        ("alpha", with_recipe(alpha=128)),
        ("alpha", with_recipe(rank=64, alpha=128, rslora=True)),  # 16, where alpha / r would be 2
        ("rsLoRA", with_recipe(rank=64, alpha=128)),
        ("dropout", with_recipe(dropout=0.3)),
        ("learning rate", replace(USUAL, schedule=Schedule(learning_rate=1e-5))),
        ("learning rate", replace(USUAL, schedule=Schedule(learning_rate=1e-2))),
        ("learning rate", with_recipe(method="full")),
        ("effective batch", with_recipe(batch_size=8)),
        ("steps", with_data(600, 300, 2000, steps=99)),
        ("epochs", with_data(1000, 300, 2000, steps=625)),
    ],
)  # fmt: skip
def test_each_rule_speaks_where_its_source_does_and_alone(topic, case):
    assert topics(case) == [topic]


def test_every_rule_is_reached_by_a_case_above_and_has_a_source():
    reasons = {rule.reason for rule in RULES}
    assert len(reasons) == len(RULES) == 14
    assert all("20" in rule.source or "tinker-docs" in rule.source for rule in RULES)


@pytest.mark.parametrize(
    "case",
    [
        with_recipe(alpha=4),  # QLoRA's r 64, alpha 16
        with_recipe(rank=64, alpha=16, rslora=True),
        with_recipe(dropout=0.1),
        with_recipe(batch_size=4),
        with_data(1000, 300, 2000, steps=250),  # four passes
        replace(with_recipe(method="full"), schedule=Schedule(learning_rate=2e-5)),
    ],
)
def test_what_the_sources_did_themselves_is_not_warned_of(case):
    assert advise(case) == ()


def test_a_plan_carries_it_and_a_plan_file_keeps_it(monkeypatch, tmp_path):
    made_up.install(monkeypatch, tmp_path / "cache")
    plan = make_plan(made_up.task(), None)
    assert [advice.topic for advice in plan.guidance] == ["target modules"]
    assert plan.recipe.target_modules == ("attention",)  # told, not changed
    write_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json").guidance == plan.guidance
