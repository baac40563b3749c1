"""Traces against real steps with real tensors, against other shapes, and against other depths: to the byte."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lplan.planner.polynomial import Shape, evaluate, symbolize, term
from lplan.planner.recipe import ALL_LINEAR, Recipe
from lplan.planner.tracing.model import build, make_config, wrap
from lplan.planner.tracing.step import TracedStep
from lplan.planner.tracing.trace import trace
from lplan.planner.tracing.tracker import StorageTracker
from lplan.profiles.errors import LplanError, UsageError

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 5,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 2048,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 64, "n_layer": 5, "n_head": 4, "vocab_size": 320}
GEMMA = {
    "model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 320, "sliding_window": 600,
}  # fmt: skip
FALCON = {
    "model_type": "falcon", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 320,
}  # fmt: skip
SHAPE = Shape(batch=3, seq=48, supervised=60, chunk=16)
STEPS = ("first step", "steady step", "evaluation")
STATISTICS = 0.001
"""Layer norm keeps 16-bit statistics on a CPU and fp32 ones on meta: some bytes a token."""


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def real_peaks(values, recipe):
    """Live-byte peaks of a real step with real tensors under the same tracker."""
    torch.manual_seed(0)
    model = wrap(build(make_config(values), recipe), recipe)
    tracker = StorageTracker(mask_is_full=recipe.padding == "none")
    step = TracedStep(model, recipe, SHAPE, tracker)
    made = step._batch

    def batch():
        one = made()
        if "attention_mask" in one:
            one["attention_mask"][:] = 1
            one["attention_mask"][0, -5:] = 0
        if "positions" in one:
            one["positions"] = torch.arange(SHAPE.supervised)
        return one

    step._batch = batch
    step.run()
    live, peaks = 0, {}
    for segment in tracker.segments:
        for event in segment.events:
            live += tracker.storages[abs(event) - 1].size_bytes * (1 if event > 0 else -1)
            peaks[segment.phase] = max(peaks.get(segment.phase, 0), live)
    return {phase: peaks[phase] for phase in STEPS}


def traced_peaks(values, recipe, shape=SHAPE):
    footprint = trace(values, recipe, shape)
    return {phase: sum(footprint.peak(phase, shape).values()) for phase in STEPS}


@pytest.mark.parametrize(
    "knobs",
    [
        {}, {"padding": "none"}, {"precision": "fp32"}, {"checkpointing": "full"}, {"checkpointing": "every-2"},
        {"loss": "supervised"}, {"precision": "bf16-amp"}, {"method": "full", "accumulation": 1},
        {"input_casting": False}, {"attention": "eager"}, {"adapter_dtype": "base", "dropout": 0.0},
        {"target_modules": ALL_LINEAR, "optimizer": "sgd"},
    ],
    ids=str,
)  # fmt: skip
def test_a_trace_equals_the_real_step_to_the_byte(knobs):
    recipe = Recipe(**knobs).graph()
    assert traced_peaks(LLAMA, recipe) == real_peaks(LLAMA, recipe)


@pytest.mark.parametrize("values", [GPT2, GEMMA, FALCON], ids=lambda v: v["model_type"])
def test_other_families_agree_with_the_real_step(values):
    recipe = Recipe().graph()
    traced, real = traced_peaks(values, recipe), real_peaks(values, recipe)
    assert traced == {phase: pytest.approx(real[phase], rel=STATISTICS) for phase in STEPS}


@pytest.mark.parametrize(
    "knobs", [{}, {"checkpointing": "full"}, {"method": "full"}, {"loss": "supervised"}], ids=str
)
@pytest.mark.parametrize("layers", [8, 11])
def test_few_layers_tell_of_many_to_the_byte(knobs, layers):
    recipe = Recipe(**knobs).graph()
    deep = {**LLAMA, "num_hidden_layers": layers}
    extended = trace(deep, recipe, SHAPE)
    assert extended.traced_layers < layers
    assert traced_peaks(deep, recipe) == real_peaks(deep, recipe)


def test_a_chunked_loss_works_on_every_supervised_token_once_more():
    """Under a frozen head two products, logits and their gradient; in chunks the logits are made twice."""
    shape, wide = Shape(batch=8, seq=250, supervised=1920, chunk=128), {**LLAMA, "hidden_size": 128}
    head_flop = 2 * shape.supervised * wide["hidden_size"] * wide["vocab_size"]
    flop = {
        loss: sum(
            work.at(shape.values(), found.extra_units)
            for name, work in found.work.items()
            if name.startswith("micro matmul")
        )
        for loss in ("supervised", "chunked")
        for found in [trace(wide, Recipe(loss=loss), shape)]
    }
    assert flop["chunked"] - flop["supervised"] == pytest.approx(head_flop, rel=1e-5)


def test_parameters_are_counted_as_pytorch_counts_them():
    found = trace({**LLAMA, "num_hidden_layers": 9}, Recipe().graph(), SHAPE)
    model = build(make_config({**LLAMA, "num_hidden_layers": 9}), Recipe())
    assert found.parameters.at(SHAPE.values(), found.extra_units) == sum(
        p.numel() for p in model.parameters()
    )


def test_the_founding_documents_adapters_have_two_and_a_quarter_million_parameters():
    tinyllama = {
        **LLAMA, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
        "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000,
    }  # fmt: skip
    found = trace(tinyllama, Recipe().graph(), SHAPE)
    # 22 layers x r 8 x ((2048 + 2048) x 2 for q, o and (2048 + 256) x 2 for k, v): k and v are 256 wide.
    derived = 22 * 8 * (2 * (2048 + 2048) + 2 * (2048 + 256))
    assert derived == 2_252_800
    assert found.trainable_parameters.at(SHAPE.values(), found.extra_units) == derived


_FOUND = {}


@settings(max_examples=40, deadline=None)
@given(batch=st.integers(1, 8), seq=st.integers(2, 400), more=st.integers(1, 64))
def test_more_rows_or_tokens_never_need_less(batch, seq, more):
    found = (
        _FOUND.setdefault("llama", None)
        or _FOUND.update(llama=trace(LLAMA, Recipe().graph(), SHAPE))
        or _FOUND["llama"]
    )
    here = Shape(batch=batch, seq=seq, supervised=batch * seq, chunk=16)
    longer = replace(here, seq=seq + more, supervised=batch * (seq + more))
    wider = replace(here, batch=batch + more, supervised=(batch + more) * seq)
    for phase in STEPS:
        bytes_here = sum(found.peak(phase, here).values())
        assert sum(found.peak(phase, longer).values()) >= bytes_here
        assert sum(found.peak(phase, wider).values()) >= bytes_here


@pytest.mark.parametrize(
    ("knobs", "error"),
    [
        ({"rank": 65}, "exceeds the width 64"),
        ({"target_modules": ("nothing_like_it",)}, "match nothing"),
    ],
)
def test_what_the_model_cannot_have_is_refused_in_one_line(knobs, error):
    with pytest.raises(UsageError, match=error):
        trace(LLAMA, Recipe(**knobs).graph(), SHAPE)


def test_widths_that_do_not_fit_together_are_refused():
    with pytest.raises(LplanError):
        trace({**LLAMA, "num_attention_heads": 5}, Recipe().graph(), SHAPE)


PRIMES = Shape(batch=127, seq=509, supervised=303, chunk=101)


@pytest.mark.parametrize(
    ("dimensions", "itemsize", "polynomial"),
    [
        ((127, 509, 2048), 2, term("BS", 4096)),
        ((127, 1, 509, 509), 2, term("BS2", 2)),
        ((32000, 2048), 2, term("1", 32000 * 4096)),
        ((303, 320), 4, term("N", 1280)),
        ((101, 320), 4, term("K", 1280)),
        ((509,), 8, term("S", 8)),
    ],
)
def test_a_dimension_says_where_it_comes_from(dimensions, itemsize, polynomial):
    size = itemsize
    for dimension in dimensions:
        size *= dimension
    assert symbolize(size, dimensions, itemsize, PRIMES) == polynomial


def test_a_dimension_next_to_the_length_is_a_sum():
    polynomial = symbolize(127 * 510 * 8, (127, 510), 8, PRIMES)
    other = replace(PRIMES, batch=2, seq=10)
    assert evaluate(polynomial, other.values()) == 2 * 11 * 8
