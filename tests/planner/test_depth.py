from __future__ import annotations

from typing import Any

import pytest
from tiny_models import TINY_MODELS, with_layers

from lplan.planner.tracing.depth import Depth, choose_depth, cut
from lplan.planner.tracing.model import make_config

SLIDING, FULL = "sliding_attention", "full_attention"


@pytest.mark.parametrize(
    ("name", "layers", "checkpoint_period", "expected"),
    [
        ("llama", 1, 0, Depth(1, 1, 1)),
        ("llama", 3, 0, Depth(3, 1, 3)),
        ("llama", 4, 0, Depth(4, 1, 3)),
        ("llama", 22, 0, Depth(22, 1, 3)),
        ("llama", 22, 1, Depth(22, 1, 3)),
        ("llama", 22, 2, Depth(22, 2, 6)),
        ("llama", 23, 2, Depth(23, 2, 7)),
        ("llama", 5, 2, Depth(5, 2, 5)),
        ("gpt2", 12, 0, Depth(12, 1, 3)),
        # Gemma 2 alternates window and full attention; Gemma 3 has five windows to one full layer.
        ("gemma2", 26, 0, Depth(26, 2, 6)),
        ("gemma3_text", 26, 0, Depth(26, 6, 20)),
        ("gemma3_text", 18, 0, Depth(18, 6, 18)),
        ("gemma3_text", 62, 4, Depth(62, 12, 38)),
    ],
)
def test_the_smallest_stack_that_shows_everything(
    name: str, layers: int, checkpoint_period: int, expected: Depth
) -> None:
    assert choose_depth(make_config(with_layers(name, layers)), checkpoint_period) == expected


@pytest.mark.parametrize(
    ("types", "expected", "kept"),
    [
        ([FULL] + [SLIDING] * 7, Depth(8, 1, 4, lead=1), [0, 1, 2, 3]),
        ([SLIDING] * 7 + [FULL], Depth(8, 1, 4), [0, 1, 2, 7]),
        ([FULL, FULL] + [SLIDING, FULL] * 5 + [SLIDING] * 2, Depth(14, 2, 8, lead=1), [*range(7), 13]),
    ],
)
def test_ends_that_are_unlike_the_rest_are_traced_beside_it(
    types: list[str], expected: Depth, kept: list[int]
) -> None:
    config = make_config(with_layers("gemma2", len(types), layer_types=types))
    depth = choose_depth(config, 0)
    assert depth == expected
    assert list(depth.kept()) == kept


def test_a_stack_without_a_pattern_is_traced_whole() -> None:
    types = [SLIDING, FULL, FULL, SLIDING, SLIDING, FULL, SLIDING, FULL]
    config = make_config(with_layers("gemma2", 8, layer_types=types))
    assert choose_depth(config, 0).whole


def test_units_are_first_repeated_last_and_remainder() -> None:
    depth = Depth(layers=23, period=2, traced=7)
    assert [depth.unit(layer) for layer in (-1, 0, 1, 2, 3, 4, 5, 6)] == [-1, 0, 0, 1, 1, 2, 2, 3]


def test_nothing_is_repeated_in_a_whole_stack() -> None:
    assert {Depth(4, 1, 4).unit(layer) for layer in range(4)} == {-1}


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "gemma3_text"])
def test_a_cut_configuration_builds_the_cut_stack(name: str) -> None:
    config = make_config(with_layers(name, 20))
    values: dict[str, Any] = {**config.to_dict(), "model_type": config.model_type}
    small = make_config(cut(config, values, 7))
    assert small.num_hidden_layers == 7
    assert small.hidden_size == config.hidden_size
    types = getattr(config, "layer_types", None)
    if types is not None:
        assert small.layer_types == types[:7]


def test_a_list_of_another_length_is_not_per_layer() -> None:
    config = make_config({**TINY_MODELS["llama"], "num_hidden_layers": 9, "eos_token_id": [1, 2]})
    assert choose_depth(config, 0) == Depth(9, 1, 3)
    assert cut(config, {"eos_token_id": [1, 2]}, 3)["eos_token_id"] == [1, 2]
