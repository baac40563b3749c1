"""Cutting a validation set out of examples that come without one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from .examples import Example

VALIDATION_SHARE = 10
"""One example in so many is held out."""


def hold_out(examples: Sequence[Example], *, seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Train and validation, both in the given order, the same for the same examples and seed.

    Stratified: examples are shuffled, put in order of label, and every tenth is taken, so that each label
    gives its tenth to within one example. The only example of a label always stays in train.
    """
    count = Counter(e.label for e in examples)
    order = [i for i, e in enumerate(examples) if e.label is None or count[e.label] > 1]
    random.Random(seed).shuffle(order)  # noqa: S311 - reproducible, not secret
    order.sort(key=lambda i: examples[i].label or "")
    held = set(order[VALIDATION_SHARE // 2 :: VALIDATION_SHARE])
    train = tuple(e for i, e in enumerate(examples) if i not in held)
    return train, tuple(e for i, e in enumerate(examples) if i in held)
