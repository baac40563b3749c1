from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lplan.planner.recipe import Recipe
from lplan.profiles.errors import UsageError


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("method", "qlora"),
        ("precision", "fp8"),
        ("adapter_dtype", "bf16"),
        ("optimizer", "lion"),
        ("attention", "flash"),
        ("loss", "fused"),
        ("padding", "folded"),
        ("allocator", "jemalloc"),
        ("rank", 0),
        ("alpha", -1),
        ("batch_size", 0),
        ("accumulation", 0),
        ("seq_len", 0),
        ("supervised_len", 0),
        ("threads", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("checkpointing", "every-1"),
        ("checkpointing", "every-"),
        ("checkpointing", "some"),
        ("target_modules", ()),
    ],
)
def test_nonsense_never_becomes_a_recipe(knob: str, value: Any) -> None:
    with pytest.raises(UsageError, match=r"\w"):
        Recipe(**{knob: value})


@pytest.mark.parametrize(
    ("checkpointing", "period"), [("none", 0), ("full", 1), ("every-2", 2), ("every-12", 12)]
)
def test_checkpoint_period(checkpointing: str, period: int) -> None:
    assert Recipe(checkpointing=checkpointing).checkpoint_period == period


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16"), ("bf16-amp", "float32")]
)
def test_weights_are_16_bit_only_without_autocast(precision: Any, dtype: str) -> None:
    assert Recipe(precision=precision).weights_dtype == dtype


def test_effective_batch() -> None:
    assert Recipe(batch_size=2, accumulation=4).effective_batch == 8


@pytest.mark.parametrize(
    "other",
    [
        {"batch_size": 7},
        {"seq_len": 77},
        {"supervised_len": 5},
        {"alpha": 64},
        {"threads": 8},
        {"allocator": "default"},
        {"init": "random"},
        {"dropout": 0.3},
        {"accumulation": 16},
        {"length_buckets": 4, "pad_to_multiple_of": 16},
    ],
)
def test_knobs_that_leave_the_graph_alone(other: dict[str, Any]) -> None:
    assert Recipe(**other).graph() == Recipe().graph()


@pytest.mark.parametrize(
    "other",
    [
        {"rank": 16},
        {"method": "full"},
        {"dropout": 0.0},
        {"target_modules": ("all-linear",)},
        {"accumulation": 1},
        {"precision": "fp32"},
        {"precision": "bf16-amp"},
        {"adapter_dtype": "base"},
        {"input_casting": False},
        {"checkpointing": "full"},
        {"checkpointing": "every-2"},
        {"optimizer": "sgd"},
        {"attention": "eager"},
        {"loss": "supervised"},
        {"loss": "chunked"},
        {"padding": "none"},
    ],
)
def test_knobs_that_change_the_graph(other: dict[str, Any]) -> None:
    assert Recipe(**other).graph() != Recipe().graph()


def test_adapters_do_not_matter_without_them() -> None:
    full = Recipe(method="full")
    assert replace(full, rank=64, dropout=0.0, target_modules=("q_proj",)).graph() == full.graph()


def test_input_casting_matters_only_between_dtypes() -> None:
    for same in ({"precision": "fp32"}, {"adapter_dtype": "base"}):
        assert Recipe(**same, input_casting=False).graph() == Recipe(**same).graph()


def test_graph_is_a_fixed_point() -> None:
    recipe = Recipe(batch_size=9, accumulation=7, seq_len=33, loss="chunked", method="full")
    assert recipe.graph().graph() == recipe.graph()


def test_dict_round_trip() -> None:
    recipe = Recipe(rank=4, target_modules=("q_proj", "v_proj"), checkpointing="every-3", dropout=0.0)
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_unknown_knob_is_named() -> None:
    with pytest.raises(UsageError, match="'warp'"):
        Recipe.from_dict({"warp": 9})
