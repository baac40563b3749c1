"""A footprint is traced at one shape and evaluated at all: it must equal a trace at each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TINY_MODELS, traced_peaks, with_layers

from lplan.planner.footprint import Footprint
from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Recipe
from lplan.planner.tracing import trace as trace_module
from lplan.planner.tracing.trace import trace
from lplan.profiles.errors import LplanError, UsageError

PHASES = ("first step", "steady step", "evaluation")
SHAPES = [
    Shape(batch=3, seq=37, supervised=80, chunk=32),
    Shape(batch=2, seq=63, supervised=126, chunk=64),
    Shape(batch=2, seq=64, supervised=100, chunk=64),
    Shape(batch=4, seq=700, supervised=2048, chunk=128),
]
"""Around the window of 64 tokens that some of the models have."""


def totals(footprint: Footprint, shape: Shape) -> dict[str, int]:
    return {phase: sum(footprint.peak(phase, shape).values()) for phase in PHASES}


def check_everywhere(config: Mapping[str, Any], recipe: Recipe, slack_bytes: int = 0) -> list[Footprint]:
    """Compare at all SHAPES; returns the footprints that were needed."""
    found: list[Footprint] = []
    for shape in SHAPES:
        footprint = next((f for f in found if f.holds(shape)), None)
        if footprint is None:
            footprint = trace(config, recipe, shape)
            found.append(footprint)
        assert footprint.shape is None
        direct, evaluated = traced_peaks(config, recipe, shape), totals(footprint, shape)
        assert evaluated == {phase: pytest.approx(direct[phase], abs=slack_bytes) for phase in PHASES}
    return found


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"padding": "none"},
        {"loss": "supervised", "checkpointing": "full"},
        {"attention": "eager", "precision": "fp32"},
        {"method": "full"},
        {"precision": "bf16-amp"},
    ],
    ids=str,
)
def test_a_llama_at_any_shape(knobs: dict[str, Any]) -> None:
    (footprint,) = check_everywhere(TINY_MODELS["llama"], Recipe(accumulation=1, **knobs).graph())
    assert (footprint.shortest, footprint.longest) == (1, 2048)


@pytest.mark.parametrize("name", ["gpt2", "bloom", "falcon", "opt", "mixtral"])
def test_other_architectures_at_any_shape(name: str) -> None:
    """Four heads, fused projections, alibi, experts: sizes that a careless choice of primes confuses."""
    (footprint,) = check_everywhere(TINY_MODELS[name], Recipe(accumulation=1).graph())
    assert footprint.shape is None


@pytest.mark.parametrize("name", ["mistral", "gemma2", "gemma3_text"])
def test_each_side_of_a_window_has_its_own_footprint(name: str) -> None:
    below, beyond = check_everywhere(TINY_MODELS[name], Recipe(accumulation=1, padding="none").graph())
    assert (below.shortest, below.longest, beyond.shortest) == (1, 63, 64)


def test_the_mask_that_a_window_needs_is_seen() -> None:
    """Equally long rows need no mask until the window ends: then one of S x S in bf16, at least."""
    recipe = Recipe(accumulation=1, padding="none").graph()
    inside, beyond = (replace(SHAPES[0], seq=seq) for seq in (63, 64))
    with_window, without = TINY_MODELS["mistral"], {**TINY_MODELS["mistral"], "sliding_window": None}
    extra = {
        shape.seq: totals(trace(with_window, recipe, shape), shape)["first step"]
        - totals(trace(without, recipe, shape), shape)["first step"]
        for shape in (inside, beyond)
    }
    assert extra[63] == 0
    assert extra[64] >= 64 * 64 * 2


SCALAR_BYTES = 4
WIDE = {"vocab_size": 20_000}
"""So that the chunk's logits are the peak, and what waits for the last chunk shows."""


@pytest.mark.parametrize("knobs", [{}, {"method": "full"}], ids=str)
def test_a_chunked_loss_with_any_number_of_chunks(knobs: dict[str, Any]) -> None:
    """Each chunk's loss is a scalar that lives to the end: the only bytes that are not counted."""
    recipe = Recipe(loss="chunked", checkpointing="full", accumulation=1, **knobs).graph()
    config = {**TINY_MODELS["llama"], **WIDE}
    chunks = max(shape.supervised // shape.chunk for shape in SHAPES)
    check_everywhere(config, recipe, slack_bytes=2 * SCALAR_BYTES * chunks)


def test_a_chunked_loss_of_a_single_chunk_is_never_too_low() -> None:
    recipe = Recipe(loss="chunked", checkpointing="full", accumulation=1).graph()
    shape = Shape(batch=2, seq=64, supervised=25, chunk=25)
    config = {**TINY_MODELS["llama"], **WIDE}
    evaluated, direct = totals(trace(config, recipe, shape), shape), traced_peaks(config, recipe, shape)
    assert all(0 <= evaluated[phase] - direct[phase] <= 2 * SCALAR_BYTES for phase in PHASES)


@pytest.mark.parametrize("knobs", [{}, {"loss": "supervised", "padding": "none"}], ids=str)
def test_a_single_sequence_is_never_too_low(knobs: dict[str, Any]) -> None:
    """With one row the shifted labels are a view instead of a copy: 8 bytes a token, once."""
    recipe = Recipe(accumulation=1, **knobs).graph()
    shape = Shape(batch=1, seq=48, supervised=40, chunk=40)
    footprint, direct = (
        trace(TINY_MODELS["llama"], recipe, shape),
        traced_peaks(TINY_MODELS["llama"], recipe, shape),
    )
    for phase, size in totals(footprint, shape).items():
        assert 0 <= size - direct[phase] <= 8 * shape.seq


@cache
def llama(layers: int) -> Footprint:
    return trace(with_layers("llama", layers), Recipe(accumulation=1).graph(), SHAPES[0])


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 8),
    seq=st.integers(1, 1024),
    more=st.integers(1, 64),
    phase=st.sampled_from(PHASES),
)
def test_more_rows_tokens_or_layers_never_need_less(batch: int, seq: int, more: int, phase: str) -> None:
    def need(footprint: Footprint, batch: int, seq: int) -> int:
        return sum(footprint.peak(phase, Shape(batch=batch, seq=seq, supervised=1, chunk=1)).values())

    here = need(llama(4), batch, seq)
    assert need(llama(4), batch + more, seq) >= here
    assert need(llama(4), batch, seq + more) >= here
    assert need(replace(llama(4), layers=4 + more), batch, seq) >= here


def test_parts_add_up_to_what_is_alive() -> None:
    recipe = Recipe(accumulation=1).graph()
    direct = traced_peaks(TINY_MODELS["llama"], recipe, SHAPES[0])
    found = trace(TINY_MODELS["llama"], recipe, SHAPES[0])
    parts = found.peak("steady step", SHAPES[0])
    assert sum(parts.values()) == direct["steady step"]
    assert all(size > 0 for size in parts.values())
    # fp32 adapters r 8 on q, k, v, o of two layers: 8 x ((64 + 64) x 2 + (64 + 16) x 2) x 4 bytes, AdamW twice that.
    adapters = 2 * 8 * (2 * (64 + 64) + 2 * (64 + 16)) * 4
    assert parts["adapters"] == adapters
    assert parts["optimizer"] == pytest.approx(2 * adapters, abs=2 * 2 * 4 * 2 * 4)


def test_what_meta_cannot_run_is_traced_with_fake_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, shape = Recipe(accumulation=1).graph(), SHAPES[0]
    expected = totals(trace(TINY_MODELS["llama"], recipe, shape), shape)
    tried: list[str] = []
    prepare = trace_module.prepare_device

    def refuse_meta(model: Any, recipe: Any, stand_in: Any) -> Any:
        tried.append(stand_in)
        if stand_in == "meta":
            raise NotImplementedError("no kernel")
        return prepare(model, recipe, stand_in)

    monkeypatch.setattr(trace_module, "prepare_device", refuse_meta)
    assert totals(trace(TINY_MODELS["llama"], recipe, shape), shape) == expected
    assert tried == ["meta", "fake", "fake"]


def test_what_nothing_can_run_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise IndexError("first line\nsecond line")

    monkeypatch.setattr(trace_module, "prepare_device", refuse)
    with pytest.raises(LplanError, match=r"^LlamaConfig cannot be traced: IndexError: first line$") as raised:
        trace(TINY_MODELS["llama"], Recipe().graph(), SHAPES[0])
    assert not isinstance(raised.value, UsageError)
    assert raised.value.hint


def test_sizes_that_are_no_polynomial_are_traced_at_the_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """No usable primes stands for everything that a polynomial cannot describe; one row must not hang."""
    monkeypatch.setattr(trace_module, "prime_shapes", lambda *_: None)
    recipe = Recipe(accumulation=1).graph()
    shape = Shape(batch=1, seq=1, supervised=1, chunk=1)
    found = trace(TINY_MODELS["llama"], recipe, shape)
    assert found.shape == shape
    assert totals(found, shape) == traced_peaks(TINY_MODELS["llama"], recipe, shape)
    assert all(part.at(shape.values(), 0) >= 0 for part in found.work.values())
