"""On a GPU as well: real traces of a tiny model, every recipe through the allocator's simulation, several budgets."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from lplan.planner.aim import Aim
from lplan.planner.cuda import gpu_rates
from lplan.planner.estimating import Situation, shape_of
from lplan.planner.frontier import pareto
from lplan.planner.kernels import on_gpu
from lplan.planner.plan import Schedule
from lplan.planner.pricer import Bound, Candidate, Pricer
from lplan.planner.recipe import Recipe
from lplan.planner.runtime import shipped_baseline
from lplan.planner.search import EQUALLY_FAST, price_all, search, tracing
from lplan.planner.space import space
from lplan.planner.task import Task
from lplan.planner.tracing.trace import trace
from lplan.profiles.hardware import Budget
from lplan.profiles.model import ModelProfile, WeightFiles
from lplan.profiles.named import find_hardware
from lplan.profiles.units import MIB

CONFIG = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 8000,
}  # fmt: skip
MODEL = ModelProfile(
    id="tiny", alias=None, model_type="llama", architecture="LlamaForCausalLM", config=CONFIG, parameters=None,
    weights=WeightFiles(format="none", dtype="float16", total_bytes=0), location=None, source="test",
)  # fmt: skip
T4 = find_hardware("t4")
BUDGETS = (190, 240, 300, 2000)


@pytest.fixture(scope="module", autouse=True)
def traced(tmp_path_factory):
    """Traces in this process, each graph once for all tests."""

    def here(model, requests, store, **_):
        for recipe, shape in requests:
            yield (recipe, shape), trace(dict(model.config), recipe.graph(), shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LPLAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("lplan.planner.tracer._trace", here)
        yield


def task(budget_mib, **aim):
    start = Recipe(
        device="cuda", kernel="efficient", precision="fp16", allocator="default", batch_size=1, accumulation=4,
        seq_len=256, supervised_len=256, optimizer="adamw-fused", loss="chunked",
    )  # fmt: skip
    budget = Budget(device="cuda", budget_bytes=budget_mib * MIB, reserve_bytes=0, limits=(), reason="asked")
    rates = gpu_rates(T4.gpus[0])
    return Task(
        situation=Situation(
            model=MODEL, hardware=T4, budget=budget, baseline=shipped_baseline(), versions={}
        ),
        start=on_gpu(start, T4.gpus[0], CONFIG),
        given=frozenset({"input_casting", "optimizer", "loss"}),
        schedule=Schedule(),
        lengths=None,
        rates={"default": rates, "expandable": rates},
        aim=Aim(**aim),
    )


@cache
def everything(budget_mib, allocator="default"):
    wanted = task(budget_mib)
    recipes = [replace(recipe, allocator=allocator) for recipe in space(wanted)]
    return [c for c in price_all(wanted, recipes) if isinstance(c, Candidate)]


def best_of_all(candidates):
    fitting = [c for c in candidates if c.fits]
    if not fitting:
        return None
    fastest_s = min(c.time.step_s for c in fitting)
    equal = [c for c in fitting if c.time.step_s <= fastest_s * (1 + EQUALLY_FAST)]
    return min((c.required_bytes, c.time.step_s) for c in equal)


@pytest.mark.parametrize("budget_mib", BUDGETS)
def test_the_fastest_of_the_whole_grid(budget_mib):
    wanted = task(budget_mib)
    chosen = search(wanted).chosen
    best = best_of_all(everything(budget_mib)) or best_of_all(everything(budget_mib, "expandable"))
    if best is None:
        kinds = ("default", "expandable")
        least = min(c.required_bytes for kind in kinds for c in everything(budget_mib, kind))
        assert not chosen.fits
        assert chosen.required_bytes == least
    else:
        assert (chosen.required_bytes, chosen.time.step_s) == best


@pytest.mark.parametrize("budget_mib", BUDGETS)
def test_no_recipe_needs_less_than_its_bound(budget_mib):
    wanted = task(budget_mib)
    with tracing(wanted, None) as footprints:
        pricer = Pricer(wanted, footprints)
        for recipe in space(wanted):
            exact, bound = pricer.price(recipe), pricer.bound(recipe)
            assert isinstance(exact, Candidate)
            assert isinstance(bound, Bound)
            assert 0 < bound.least_bytes <= exact.required_bytes
            assert bound.least_s == exact.time.step_s


def test_recomputation_costs_and_leaves_at_least_what_is_supposed_of_it():
    wanted = task(2000)
    with tracing(wanted, None) as footprints:
        for recipe in space(wanted):
            footprints.get(replace(recipe, checkpointing="none"), shape_of(recipe))
            pricer = Pricer(wanted, footprints)
            supposed, exact = pricer.supposed(recipe), pricer.price(recipe)
            assert supposed.least_s <= exact.time.step_s * (1 + 1e-9)
            assert supposed.least_bytes <= exact.required_bytes


@pytest.mark.parametrize("objective", ["least-memory", "largest-batch"])
def test_other_objectives(objective):
    wanted = task(300, objective=objective)
    found = [*everything(300), *everything(300, "expandable")]
    chosen = search(wanted).chosen
    if objective == "least-memory":
        assert chosen.required_bytes == min(c.required_bytes for c in found)
    else:
        assert chosen.recipe.batch_size == max(c.recipe.batch_size for c in found if c.fits)


def test_the_frontier():
    wanted = task(300)
    points = [(p.step_s, p.required_bytes) for p in pareto(wanted)]
    grid = {(c.time.step_s, c.required_bytes) for c in everything(300)}
    unbeaten = {(s, b) for s, b in grid if not any((t, c) != (s, b) and t <= s and c <= b for t, c in grid)}
    assert points == sorted(unbeaten)
