"""The walk from full fine-tuning to a plan, as people see it."""

from __future__ import annotations

import pytest

from lplan.planner.walk import Measure
from lplan.profiles.units import GIB, MIB
from lplan.report.walk import walk_view

_STEPS = (
    ("full fine-tuning", "fp32, 4 x 512", 20.75, None),
    ("gradient accumulation", "2 x 4", 20.875, 0.96),
    ("activation checkpointing", "every-2", 16.5, 1.18),
    ("precision and adapters", "bf16, lora r 8", 5.5, 0.36),
    ("sequence length", "1024", 7.5, 1.05),
    ("optimizer", "adamw-fused", 7.5, 1.0),
    ("allocator", "default", 8.25, 0.83),
)


def measures() -> list[Measure]:
    found: list[Measure] = []
    for name, setting, peak_gib, ratio in _STEPS:
        peak = int(peak_gib * GIB)
        saves = found[-1].peak_bytes - peak if found else 0
        found.append(
            Measure(
                name=name,
                setting=setting,
                peak_bytes=peak,
                saves_bytes=saves,
                time_ratio=ratio,
                fits=peak < 8 * GIB,
            )
        )
    return found


@pytest.mark.parametrize("width", [80, 120])
def test_golden_walk(golden, render, width):
    golden(f"walk_{width}", render(walk_view("made-up", measures(), 8 * GIB), width=width))


@pytest.mark.parametrize("width", [80, 120])
def test_bars_are_as_long_as_what_is_left(render, width):
    rows = render(walk_view("made-up", measures(), 8 * GIB), width=width).splitlines()
    bars = [row.count("█") for row in rows if "█" in row]
    longest = max(peak for _, _, peak, _ in _STEPS)
    assert len(bars) == len(_STEPS)
    assert [bar / max(bars) for bar in bars] == pytest.approx(
        [peak / longest for _, _, peak, _ in _STEPS], abs=0.6 / max(bars)
    )


def test_small_savings_are_told(render):
    first, second = measures()[:2]
    saved = Measure(
        name="loss path",
        setting="chunked",
        peak_bytes=first.peak_bytes - 62 * MIB,
        saves_bytes=62 * MIB,
        time_ratio=0.999,
        fits=False,
    )
    shown = render(walk_view("made-up", [first, saved, second], 8 * GIB))
    assert "62.0 MiB" in shown
    assert "the same" in shown
