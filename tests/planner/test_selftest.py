"""The self-test's sizes: every one on a fast machine, and no minutes on a slow one."""

from __future__ import annotations

from math import prod

import pytest
import torch

from lplan.planner.tracing import selftest
from lplan.planner.tracing.selftest import ROWS, WIDTHS, rates_by_size
from lplan.planner.tracing.tracker import StorageTracker

SIZES = [(width, rows) for width in WIDTHS for rows in ROWS]


@pytest.mark.parametrize(
    ("flop_per_s", "measured"),
    [
        pytest.param(2e11, SIZES, id="all"),
        # 4 * 1024 * 512^2 operations take 1.07 s, and those of the larger width longer.
        pytest.param(1e9, SIZES[:1], id="bf16 without its instructions"),
        # 0.36 s at 3e9, but 0.7 s and 5.7 s for the larger width.
        pytest.param(3e9, SIZES[:2], id="the smaller width"),
        # 0.43 s and 3.4 s for the larger width.
        pytest.param(5e9, SIZES[:3], id="in between"),
        pytest.param(1e6, SIZES[:1], id="the smallest always"),
    ],
)
def test_what_takes_too_long_has_the_rate_of_a_smaller_product(
    flop_per_s: float, measured: list[tuple[int, int]]
) -> None:
    asked: list[tuple[int, int]] = []

    def measure(width: int, rows: int) -> float:
        asked.append((width, rows))
        return flop_per_s

    rates = rates_by_size(measure)
    assert asked == measured
    assert rates == {str(width): {str(rows): flop_per_s for rows in ROWS} for width in WIDTHS}


def test_attention_is_measured_as_the_time_model_counts_it():
    """The same products for the same op, and a rate by dtype."""
    batch, heads, length, width = selftest._ATTENDED
    query = torch.zeros(selftest._ATTENDED, requires_grad=True)
    mask = torch.ones(length, length, dtype=torch.bool)
    tracker = StorageTracker(mask_is_full=False)
    tracker.answers = False
    tracker.enter("steady step", "forward")
    with tracker:
        torch.nn.functional.scaled_dot_product_attention(query, query, query, mask).sum().backward()
    counted = sum(
        prod(factors)
        for work in tracker.segments[-1].work
        if work.kind == "attention"
        for factors in work.factors
    )
    assert counted == 2 * selftest._ATTENTION_PRODUCTS * batch * heads * length * length * width
    assert selftest._attention(torch.float32) > 0
