from __future__ import annotations

import pytest
from tiny_models import TINY_MODELS, with_layers

from lplan.planner.recipe import Recipe
from lplan.planner.tracing.model import make_config
from lplan.planner.tracing.shapes import Lengths, lengths_around, prime_shapes


@pytest.mark.parametrize(
    ("name", "changes", "seq", "expected"),
    [
        # transformers materialises the mask from kv_length >= sliding_window on; tables of positions end at their size.
        ("llama", {}, 512, Lengths(1, 2048)),
        ("llama", {}, 2048, Lengths(1, 2048)),
        ("llama", {}, 2049, Lengths(2049, None)),
        ("gemma2", {"sliding_window": 512}, 511, Lengths(1, 511)),
        ("gemma2", {"sliding_window": 512}, 512, Lengths(512, 2048)),
        ("mistral", {"sliding_window": None}, 1000, Lengths(1, 2048)),
        ("gpt2", {"n_positions": 1024}, 100, Lengths(1, 1024)),
    ],
)
def test_lengths_on_one_side_of_every_window(name: str, changes: dict, seq: int, expected: Lengths) -> None:
    config = make_config({**TINY_MODELS[name], **changes})
    assert lengths_around(config, seq) == expected


@pytest.mark.parametrize("name", TINY_MODELS)
@pytest.mark.parametrize(
    "lengths", [Lengths(1, 2048), Lengths(1, 63), Lengths(512, None), Lengths(4096, 8191)]
)
def test_the_two_shapes_are_primes_that_cannot_be_confused(name: str, lengths: Lengths) -> None:
    config = make_config(TINY_MODELS[name])
    shapes = prime_shapes(config, Recipe(), lengths)
    assert shapes is not None
    sizes = [size for shape in shapes for size in (shape.batch, shape.seq, shape.chunk)]
    assert len(set(sizes)) == 6
    for size in sizes:
        assert all(size % divisor for divisor in range(2, size))
        assert config.hidden_size % size
        assert config.vocab_size % size
    for shape in shapes:
        assert lengths.shortest <= shape.seq <= (lengths.longest or shape.seq)
        assert shape.supervised == 3 * shape.chunk
        # 4 x 127 is 509 - 1: four heads of 127 sequences looked like a shifted sequence once.
        assert all((n * shape.seq + off) % shape.batch for n in range(1, 9) for off in (-1, 1))


def test_primes_of_the_models_own_widths_are_avoided() -> None:
    falcon_7b = {"hidden_size": 4544, "num_attention_heads": 71, "vocab_size": 65024}
    shapes = prime_shapes(make_config(with_layers("falcon", 32, **falcon_7b)), Recipe(), Lengths(1, 2048))
    assert shapes is not None
    assert all(65024 % shape.batch for shape in shapes)
    assert 65024 % 127 == 0


@pytest.mark.parametrize("lengths", [Lengths(1, 4), Lengths(24, 28)])
def test_too_few_lengths_have_no_primes(lengths: Lengths) -> None:
    assert prime_shapes(make_config(TINY_MODELS["llama"]), Recipe(), lengths) is None
