"""Every model type that AutoModelForCausalLM knows: the stored table, and some of the most different types again."""

from __future__ import annotations

import pytest

from lplan.benchmarks.coverage import SHAPE, Row, recipe_of, stored_rows, summary
from lplan.benchmarks.side_by_side import real_peaks
from lplan.benchmarks.small_models import small_config
from lplan.planner.tracing.trace import trace_whole

TRAINED_SHARE = 0.98
"""Of the types that the real libraries can train, as many at least are estimated, and within one per cent."""


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return stored_rows()


def test_the_table_has_every_type_of_the_installed_transformers(rows: list[Row]) -> None:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if transformers.__version__ != "5.23.0":
        pytest.skip("the table is of another version")
    assert [row.model_type for row in rows] == list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def test_nearly_all_types_that_can_be_trained_are_estimated(rows: list[Row]) -> None:
    counts = summary(rows)
    assert counts["trainable"] >= 0.9 * counts["types"]
    assert counts["estimated"] >= TRAINED_SHARE * counts["trainable"]
    assert counts["within_1_percent"] >= TRAINED_SHARE * counts["trainable"]


def test_no_extrapolated_stack_differs_from_a_whole_trace(rows: list[Row]) -> None:
    assert [row.model_type for row in rows if row.deeper_agrees is False] == []


def test_every_type_without_a_step_or_an_estimate_has_its_reason(rows: list[Row]) -> None:
    assert [row.model_type for row in rows if not (row.trained and row.estimated) and not row.reason] == []


@pytest.mark.parametrize(
    "model_type",
    [
        "bart",  # the decoder of an encoder-decoder
        "blt",  # patches of bytes, as many as an unsure patcher makes
        "big_bird",  # blocks of attention, all of it for short sequences
        "dbrx",  # a loop over the experts that were chosen, and the tokens that chose each
        "deepseek_v3",  # latent attention, dense and sparse layers, adapters on fused experts
        "emu3",  # a text part that no model type of its own builds
        "falcon_h1",  # attention beside a state space in every layer
        "gpt_oss",  # attention with sinks, biased experts
        "jetmoe",  # experts of attention, and tokens split by counts
        "longcat_flash",  # experts that compute nothing
        "mamba2",  # state space, whose output projection PEFT leaves out
        "recurrent_gemma",  # recurrent blocks
        "reformer",  # attention within hashed buckets
        "xglm",  # positions by sinusoids
    ],
)
def test_a_real_step_holds_what_the_trace_says(model_type: str, rows: list[Row]) -> None:
    trained = next(row.trained for row in rows if row.model_type == model_type)
    assert trained is not None
    recipe, config = recipe_of(trained), small_config(model_type)
    found = trace_whole(config, recipe, SHAPE)
    traced = {phase: sum(found.peak(phase, SHAPE).values()) for phase in found.phases}
    assert traced == pytest.approx(real_peaks(config, recipe, SHAPE), rel=0.01)
