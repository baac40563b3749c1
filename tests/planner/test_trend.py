"""Warnings before a limit is reached, on histories made by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lplan.planner.events import Sample
from lplan.planner.trend import Trend
from lplan.profiles.units import GIB, MIB


def sample(t_s: float, used_bytes: int, **more: int) -> Sample:
    return Sample(t_s=t_s, rss_bytes=3 * GIB, anonymous_bytes=used_bytes, file_bytes=0, swap_bytes=0, **more)


def history(
    peak_of: Callable[[int], float], steps: int = 30, planned_gib: float = 1.0
) -> list[tuple[int, str]]:
    """Steps of two seconds, each with a low and its peak in GiB, under a limit of 2 GiB: what was said after which."""
    trend = Trend(limit_bytes=2 * GIB, planned_bytes=int(planned_gib * GIB))
    said = []
    for step in range(1, steps + 1):
        told = [
            trend.sample(sample(2 * step - 1.0, GIB // 2)),
            trend.sample(sample(2 * step - 0.5, int(peak_of(step) * GIB))),
            trend.step(2.0 * step),
        ]
        said += [(step, text) for text in told if text]
    return said


def test_a_leak_is_told_within_a_minute_of_the_limit_and_once_more() -> None:
    # 20 MiB a step of 2 s from 1.2 GiB on: 2 GiB are reached after step 41, a minute before that is step 11.
    (step, text), (again, _) = history(lambda step: 1.2 + 20 * step / 1024)
    assert step in (11, 12)
    assert again == step + 4
    assert "the limit of 2.00 GiB is reached in about" in text


def test_a_leak_that_freeing_caches_ends_is_told_once() -> None:
    assert len(history(lambda step: 1.2 + 20 * min(step, 12) / 1024)) == 1


@pytest.mark.parametrize(
    "peak_of",
    [
        pytest.param(lambda step: 1.9, id="high but steady"),
        pytest.param(lambda step: 1.9 - step / 1024, id="falling"),
        pytest.param(lambda step: 1.5 + 0.3 * (step * 7 % 5) / 5, id="uneven batches"),
        pytest.param(lambda step: 1.2 + step / 1024, id="growing too slowly to matter"),
    ],
)
def test_what_is_no_trend_is_not_told(peak_of: Callable[[int], float]) -> None:
    assert history(peak_of) == []


def test_growth_within_the_plan_is_not_told() -> None:
    assert history(lambda step: 1.2 + 20 * step / 1024, planned_gib=1.9) == []


def test_the_last_percents_are_told_at_once() -> None:
    trend = Trend(limit_bytes=1000 * MIB, planned_bytes=900 * MIB)
    assert trend.sample(sample(1.0, 970 * MIB)) is None
    assert trend.sample(sample(1.1, 971 * MIB)) == "memory is nearly used up: 0.95 of 0.98 GiB"
    assert trend.sample(sample(1.2, 999 * MIB)) is None


def test_on_a_gpu_its_memory_counts() -> None:
    trend = Trend(limit_bytes=1000 * MIB, planned_bytes=900 * MIB, of_gpu=True)
    assert trend.sample(sample(0.9, 3 * GIB)) is None
    assert trend.sample(sample(1.0, 3 * GIB, device_bytes=500 * MIB)) is None
    assert trend.sample(sample(1.0, 0, device_bytes=980 * MIB)) is not None
