"""The batch shapes that a graph is traced at: primes that tell where a dimension comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..polynomial import Shape
from ..recipe import Recipe

CHUNKS = 3
"""Chunks of supervised tokens in a traced step: a first, a last, and one between."""

_WINDOWS = (
    "sliding_window", "attention_chunk_size", "local_attention", "attention_window_size",
    "index_topk", "indexer_budget", "keep_window_size",
)  # fmt: skip
"""From this many tokens on, transformers materialises a mask (masking_utils.py, `_ignore_causal_mask_sdpa`), or
attention picks some of the keys."""
_POSITIONS = ("max_position_embeddings",)
"""Up to this many tokens, tables of positions can be sliced."""

_BATCHES = (127, 113, 109, 107, 103, 97, 89, 83)
_CHUNKS = (101, 97, 89, 83, 79, 73, 71, 67)
_USUAL_LENGTH = 509
_SHORTEST = 5
_LONG_SEARCH = 2000
_SMALL = 16
"""Multiples of the sequence length, plus or minus one, that must not look like multiples of the batch."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Sequence lengths from `shortest` to `longest` (None: any), between which the graph stays the same."""

    shortest: int
    longest: int | None


def lengths_around(config: Any, seq: int) -> Lengths:
    """The lengths on the same side of every window and of the table of positions as `seq`."""
    starts = [*_sizes(config, _WINDOWS), *_blocks(config), *(size + 1 for size in _sizes(config, _POSITIONS))]
    after = min((start for start in starts if start > seq), default=None)
    return Lengths(
        max((start for start in starts if start <= seq), default=1), None if after is None else after - 1
    )


def _blocks(config: Any) -> list[int]:
    """Big Bird attends to all tokens up to this many (modeling_big_bird.py, `max_tokens_to_attend`)."""
    random = getattr(config, "num_random_blocks", None)
    return [] if random is None else [(5 + 2 * random) * config.block_size + 1]


def prime_shapes(config: Any, recipe: Recipe, lengths: Lengths) -> tuple[Shape, Shape] | None:
    """The shape to trace and the shape to check it at; None where the lengths hold too few usable primes."""
    ranks = (recipe.rank, *(rank for _, rank in recipe.rank_pattern))
    widths = {*_integers(config.to_dict()), *ranks, len(recipe.trainable_tokens)}
    found: list[Shape] = []
    for seq in _primes(lengths):
        shape = _around(seq, widths, found)
        if shape is not None:
            found.append(shape)
        if len(found) == 2:
            return found[0], found[1]
    return None


def _around(seq: int, widths: set[int], taken: list[Shape]) -> Shape | None:
    if _divides_any(seq, (width + off for width in widths for off in (-1, 0, 1))):
        return None
    near = [multiple * seq + off for multiple in range(1, _SMALL + 1) for off in (-1, 1)]
    used = {seq, *(n for shape in taken for n in (shape.batch, shape.chunk))}
    for batch in _BATCHES:
        if batch in used or _divides_any(batch, chain(widths, near)):
            continue
        for chunk in _CHUNKS:
            if chunk not in used | {batch} and not _divides_any(chunk, widths):
                return Shape(batch=batch, seq=seq, supervised=CHUNKS * chunk, chunk=chunk)
    return None


def _primes(lengths: Lengths) -> Iterator[int]:
    """The usual length and those below it, else those above the shortest."""
    last = _USUAL_LENGTH if lengths.longest is None else min(lengths.longest, _USUAL_LENGTH)
    first = max(lengths.shortest, _SHORTEST)
    longest = lengths.longest if lengths.longest is not None else first + _LONG_SEARCH
    below, above = range(last, first - 1, -1), range(max(first, _USUAL_LENGTH + 1), longest + 1)
    return (n for n in chain(below, above) if all(n % d for d in range(2, int(n**0.5) + 1)))


def _divides_any(prime: int, numbers: Iterable[int]) -> bool:
    return any(number >= prime and number % prime == 0 for number in numbers)


def _sizes(config: Any, names: Iterable[str]) -> list[int]:
    found = (getattr(config, name, None) for name in names)
    return [size for size in found if isinstance(size, int) and size > 1]


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield abs(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _integers(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _integers(item)
