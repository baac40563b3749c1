"""A model whose footprint is made up by simple rules, so that planning can be tested without torch.

Of the model: 4 layers of width 64, a vocabulary of 1,000; sizes are what such parts cost, in round numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lplan.planner.estimating import Situation
from lplan.planner.footprint import Footprint, Instant, Linear
from lplan.planner.plan import Schedule
from lplan.planner.polynomial import Shape, term
from lplan.planner.rates import Rates
from lplan.planner.recipe import Recipe
from lplan.planner.runtime import Baseline
from lplan.planner.task import Task
from lplan.planner.tokens import TokenLengths
from lplan.profiles.hardware import Budget, Hardware, Limit
from lplan.profiles.model import ModelProfile, WeightFiles
from lplan.profiles.units import GIB, MIB

PARAMETERS, TRAINABLE, LAYERS = 50_000_000, 500_000, 4
KEPT_PER_TOKEN = 400_000
"""Bytes of activations kept for every token without checkpointing, in bf16."""
LOGITS_PER_TOKEN = 12_000
MOVED_PER_LOGITS = 2_000_000
LIBRARIES = Baseline(anonymous_bytes=260 * MIB, file_bytes=80 * MIB)

MODEL = ModelProfile(
    id="made-up",
    alias=None,
    model_type="llama",
    architecture="LlamaForCausalLM",
    config={"model_type": "llama", "hidden_size": 64, "num_hidden_layers": LAYERS},
    parameters=PARAMETERS,
    weights=WeightFiles(
        format="safetensors", dtype="bfloat16", total_bytes=2 * PARAMETERS, shard_bytes=(2 * PARAMETERS,)
    ),
    location=None,
    source="made up",
)
HARDWARE = Hardware(
    name="cpu-made-up",
    device="cpu",
    memory_bytes=16 * GIB,
    reserve_bytes=GIB,
    cores=2,
    cpu_features=("avx2", "avx512_bf16"),
    source="made up",
)
RATES: dict[str, dict[str, Any]] = {
    "products": {"float32": {"512": {"128": 1e11}}, "bfloat16": {"512": {"128": 3e11}}},
    "memory": {"traffic_bytes_per_s": 1e10, "random_elements_per_s": 2e8, "op_s": 3e-6},
}
"""What the self-test prints."""


def footprint(recipe: Recipe) -> Footprint:
    """What a trace of `recipe` would find."""
    full = recipe.method == "full"
    item = 2 if recipe.precision == "bf16" else 4
    trained = PARAMETERS if full else TRAINABLE
    states = {
        "weights": _fixed(item * PARAMETERS),
        "adapters": _fixed(0 if full else 4 * TRAINABLE),
        "optimizer": _fixed(8 * trained),
    }
    again = 1 / recipe.checkpoint_period if recipe.checkpoint_period else 0
    kept = int(KEPT_PER_TOKEN * item // 2 * (1 - again * 7 / 8))
    per, of = {"full": ("BS", 1), "supervised": ("N", 1), "chunked": ("K", 1), "fused": ("K", 1)}[recipe.loss]
    step = {
        **states,
        "gradients": _fixed(4 * trained),
        "activations": Linear(term("BS", kept)),
        "logits and loss": Linear(term(per, of * LOGITS_PER_TOKEN)),
    }
    born = {name: part for name, part in step.items() if name != "optimizer"}
    return Footprint(
        architecture="LlamaForCausalLM",
        layers=LAYERS,
        period=1,
        traced_layers=LAYERS,
        target_modules=("self_attn.q_proj", "self_attn.v_proj"),
        phases={
            "first step": (Instant(born),),
            "steady step": (Instant(step),),
            "evaluation": (Instant({**states, "logits and loss": Linear(term(per, LOGITS_PER_TOKEN // 2))}),),
        },
        work=_work(recipe, item),
        parameters=_fixed(PARAMETERS),
        trainable_parameters=_fixed(trained),
        embedding_bytes=0,
        shared_head=True,
        chunkable=True,
    )


def _fixed(size: int) -> Linear:
    return Linear(term("1", size))


def _work(recipe: Recipe, item: int) -> Mapping[str, Linear]:
    dtype = "bfloat16" if item == 2 else "float32"
    flop = int(2 * PARAMETERS * (2 + (1 / recipe.checkpoint_period if recipe.checkpoint_period else 0)))
    head = {"full": "BS", "supervised": "N", "chunked": "N", "fused": "BS"}[recipe.loss]
    return {
        f"micro matmul {dtype}": Linear(term("BS", flop)),
        "micro traffic": Linear(term(head, MOVED_PER_LOGITS * (2 if recipe.loss == "chunked" else 1))),
        "micro ops": _fixed(1000),
        "optimizer ops": _fixed(50),
    }


def trace(model: ModelProfile, requests: Sequence[tuple[Recipe, Shape]], store: Any) -> Iterator[Any]:
    """In place of `planner.tracer._trace`, which starts a process."""
    for request in requests:
        yield request, footprint(request[0])


def rates() -> Rates:
    """As measured on the machine that was made up."""
    products = {"float32": {512: {128: 1e11}}, "bfloat16": {512: {128: 3e11}}}
    return Rates(**RATES["memory"], matmul_flop_per_s=products)


def budget(size_bytes: int) -> Budget:
    """What --ram leads to."""
    limit = Limit(name="--ram", limit_bytes=size_bytes, source="command line")
    return Budget(device="cpu", budget_bytes=size_bytes, reserve_bytes=0, limits=(limit,), reason="--ram")


def task(
    budget_bytes: int = 8 * GIB,
    *,
    recipe: Recipe | None = None,
    given: frozenset[str] = frozenset(),
    lengths: TokenLengths | None = None,
    schedule: Schedule | None = None,
    hardware: Hardware = HARDWARE,
) -> Task:
    """What a plan is wanted for, on the machine that was made up."""
    return Task(
        situation=Situation(
            model=MODEL, hardware=hardware, budget=budget(budget_bytes), baseline=LIBRARIES,
            versions={"lplan": "0", "torch": "0"},
        ),
        start=recipe or Recipe(),
        given=given,
        schedule=schedule or Schedule(),
        lengths=lengths,
        rates={"pinned": rates(), "default": rates()},
    )  # fmt: skip


def install(monkeypatch: pytest.MonkeyPatch, cache: Path) -> list[Recipe]:
    """From now on made-up footprints and rates are found, in a cache of their own; returns what is traced."""
    traced: list[Recipe] = []

    def remember(model: ModelProfile, requests: Any, store: Any, **_: Any) -> Iterator[Any]:
        for answer in trace(model, requests, store):
            traced.append(answer[0][0])
            yield answer

    monkeypatch.setenv("LPLAN_CACHE", str(cache))
    monkeypatch.setattr("lplan.planner.tracer._trace", remember)
    monkeypatch.setattr("lplan.planner.store._shipped", lambda digest: None)
    monkeypatch.setattr("lplan.planner.rates._measure", lambda allocator, threads, kind: RATES[kind])
    return traced
