"""The estimate as people see it, and the shared pieces it is drawn from."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from lplan.planner.estimate import ByteRange, HostBytes, PhaseEstimate
from lplan.planner.recipe import ALL_LINEAR, Recipe
from lplan.profiles.units import GIB, MIB
from lplan.report.estimate import estimate_view, verdict
from lplan.report.style import FULL, MARK, SHADED, budget_bar, sparkline, to_ascii
from lplan.report.wording import clock, count, duration, joined, percent, rate, recipe_phrase, size_cell

from .samples import QKVO, SMOLLM2_2G, TINYLLAMA_8G, TOO_LARGE, budget


@pytest.mark.parametrize("width", [80, 120])
def test_golden_estimate(golden, render, width):
    golden(f"estimate_{width}", render(estimate_view(TINYLLAMA_8G), width=width))


def test_golden_estimate_narrow(golden, render):
    golden("estimate_50", render(estimate_view(SMOLLM2_2G), width=50))


def test_golden_estimate_that_does_not_fit(golden, render):
    golden("estimate_too_large_80", render(estimate_view(TOO_LARGE), width=80))


def test_golden_estimate_in_ascii(golden, render):
    golden("estimate_ascii_80", render(estimate_view(TINYLLAMA_8G), encoding="ascii"))


def one_phase(*, low: float, expected: float, high: float, size: float, reclaimable: float = 0.0):
    """TinyLlama's estimate cut to its steady step, with these sizes in GiB."""
    steady = next(phase for phase in TINYLLAMA_8G.phases if phase.name == "steady step")
    peak = ByteRange(low_bytes=int(low * GIB), expected_bytes=int(expected * GIB), high_bytes=int(high * GIB))
    phase = replace(
        steady,
        peak=peak,
        components={"weights": peak.expected_bytes},
        anonymous_bytes=peak.expected_bytes,
        file_bytes=0,
        reclaimable_bytes=int(reclaimable * GIB),
    )
    return replace(TINYLLAMA_8G, phases=(phase,), budget=budget(int(size * GIB)))


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        (
            {"low": 2.5, "expected": 2.75, "high": 3.0, "size": 8.0},
            "fits: 2.75 of 8.00 GiB in a steady step, at most 3.00 GiB; 5.00 GiB to spare",
        ),
        (
            {"low": 8.5, "expected": 9.0, "high": 9.5, "size": 8.0},
            "does NOT fit: 9.00 of 8.00 GiB in a steady step, at most 9.50 GiB; misses by 1.50 GiB",
        ),
        (
            {"low": 7.0, "expected": 7.5, "high": 8.5, "size": 8.0},
            "does NOT fit: 7.50 of 8.00 GiB in a steady step, at most 8.50 GiB; may miss by 0.50 GiB",
        ),
        (
            {"low": 8.5, "expected": 9.0, "high": 9.5, "size": 8.0, "reclaimable": 2.0},
            "fits: 7.00 of 8.00 GiB in a steady step, at most 7.50 GiB; 0.50 GiB to spare",
        ),
        (
            {"low": 1.0, "expected": 1.0, "high": 1.0, "size": 0.0625},
            "does NOT fit: 1.00 GiB of 64.0 MiB in a steady step, at most 1.00 GiB; misses by 0.94 GiB",
        ),
    ],
)
def test_verdict_says_the_distance_of_the_high_estimate(sizes, sentence):
    assert verdict(one_phase(**sizes)).plain == sentence


def test_what_the_kernel_can_drop_is_said(render):
    estimate = one_phase(low=8.5, expected=9.0, high=9.5, size=8.0, reclaimable=2.0)
    text = " ".join(render(estimate_view(estimate)).split())
    assert "without 2.00 GiB of file pages that the kernel can drop" in text
    assert "88 % of the budget expected, 94 % at most" in text


@given(expected=st.floats(0.1, 100), margin=st.floats(0, 10), size=st.floats(0.1, 100))
def test_verdict_agrees_with_the_estimate(expected, margin, size):
    estimate = one_phase(low=expected, expected=expected, high=expected + margin, size=size)
    assert verdict(estimate).plain.startswith("fits:") == estimate.fits


@given(
    expected=st.integers(1, 200 * GIB),
    margin=st.integers(0, 50 * GIB),
    size=st.integers(1, 200 * GIB),
    width=st.integers(4, 150),
)
def test_bar_is_as_wide_as_asked_and_marks_the_budget_where_it_ends(expected, margin, size, width):
    bar = budget_bar(expected, expected + margin, size, width).plain
    assert len(bar) == width
    assert bar.count(MARK) == 1
    assert bar.endswith(MARK) == (expected + margin <= size)


def test_bar_is_solid_to_the_expected_and_shaded_to_the_high_share():
    assert budget_bar(50, 75, 100, 101).plain == FULL * 50 + SHADED * 25 + "·" * 25 + MARK
    assert budget_bar(150, 200, 100, 101).plain == FULL * 50 + MARK + FULL * 25 + SHADED * 25


@pytest.mark.parametrize("scale", [1, 30, 400])
@pytest.mark.parametrize("width", range(40, 131, 15))
def test_numbers_are_never_cut_or_wrapped(render, width, scale):
    phases = tuple(
        replace(
            phase,
            peak=ByteRange(
                low_bytes=phase.peak.low_bytes * scale,
                expected_bytes=phase.peak.expected_bytes * scale,
                high_bytes=phase.peak.high_bytes * scale,
            ),
            components={name: size * scale for name, size in phase.components.items()},
        )
        for phase in TINYLLAMA_8G.phases
    )
    estimate = replace(TINYLLAMA_8G, phases=phases)
    text = render(estimate_view(estimate), width=width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for phase in phases:
        assert size_cell(phase.peak.expected_bytes) in text


def test_colour_is_left_out_when_asked(monkeypatch):

    monkeypatch.setenv("NO_COLOR", "1")
    file = StringIO()
    Console(file=file, force_terminal=True, width=80).print(estimate_view(TINYLLAMA_8G))
    codes = {code for run in re.findall(r"\x1b\[([0-9;]*)m", file.getvalue()) for code in run.split(";")}
    assert codes <= {"0", "1", "2", "3"}


def test_names_are_no_markup(render):
    model = replace(TINYLLAMA_8G.model, id="[red]odd[/red]/[model]")
    text = render(estimate_view(replace(TINYLLAMA_8G, model=model, assumptions=("it is [bold]", "x[/]"))))
    assert "[red]odd[/red]/[model]" in text
    assert "it is [bold]" in text


@pytest.mark.parametrize(
    ("recipe", "phrase"),
    [
        (QKVO, ("LoRA r 8 on q,k,v,o", "bf16", "2 × 512 tokens", "checkpointing none")),
        (
            replace(QKVO, target_modules=ALL_LINEAR, rank=16, loss="chunked", allocator="default"),
            (
                "LoRA r 16 on all linear layers",
                "bf16",
                "2 × 512 tokens",
                "checkpointing none",
                "chunked loss",
                "default allocator",
            ),
        ),
        (
            Recipe(method="full", precision="fp32", batch_size=1, seq_len=64, checkpointing="every-4"),
            ("full fine-tuning", "fp32", "1 × 64 tokens", "checkpointing every-4"),
        ),
    ],
)
def test_recipe_phrase(recipe, phrase):
    assert recipe_phrase(recipe) == phrase


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "·"), (1, "<0.01"), (5 * MIB, "<0.01"), (6 * MIB, "0.01"), (GIB, "1.00"), (1234 * GIB, "1234.00")],
)
def test_size_cell(size_bytes, text):
    assert size_cell(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.45, "0.45 s"),
        (9.8, "9.8 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (725, "12 min 5 s"),
        (3599.6, "1 h"),
        (4320, "1 h 12 min"),
        (86_390, "1 d"),
        (51 * 3600, "2 d 3 h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(7.9, "0:07"), (61, "1:01"), (3723, "1:02:03")])
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(4_608, "4,608"), (134_515_008, "134.5 M"), (1_100_048_384, "1.10 B")]
)
def test_count(number, text):
    assert count(number) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (2_252_800, 1_102_301_184, "0.20 %"),
        (0, 5, "0 %"),
        (1, 40, "2.5 %"),
        (2, 3, "67 %"),
        (5, 5, "100 %"),
        (1_003, 1_000, "100.3 %"),
        (1, 0, "–"),
    ],
)
def test_percent(part, whole, text):
    assert percent(part, whole) == text


@pytest.mark.parametrize(("tokens_per_s", "text"), [(8.24, "8.2"), (104.3, "104"), (12_345.6, "12,346")])
def test_rate(tokens_per_s, text):
    assert rate(tokens_per_s) == text


def test_joined_breaks_only_between_parts():
    assert joined(("one two", "three", "four"), 15) == "one two · three\nfour"
    assert joined(("longer than the width",), 5) == "longer than the width"


@given(st.text())
def test_ascii_is_ascii_and_as_wide(text):

    replaced = to_ascii(text)
    assert replaced.isascii()
    assert cell_len(replaced) == cell_len(text)


@pytest.mark.parametrize(
    ("values", "width", "text"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([3.0, 3.0, 3.0], 24, "▄▄▄"),
        ([1.0], 24, ""),
        ([7, math.nan, 0], 24, "█▁"),
        ([0, 0, 7, 7], 2, "▁█"),
    ],
)
def test_sparkline(values, width, text):
    assert sparkline(values, width) == text


@pytest.mark.parametrize("width", [80, 120])
def test_golden_estimate_with_what_comes_besides(golden, render, width):
    wrap = next(phase for phase in TINYLLAMA_8G.phases if phase.name == "wrap")
    large = next(phase for phase in TOO_LARGE.phases if phase.name == "steady step")
    others = (
        replace(wrap, name="tokenizing"),
        replace(wrap, name="resume"),
        replace(large, name="merge in place"),
    )
    estimate = replace(TINYLLAMA_8G, other_phases=others)
    golden(f"estimate_besides_{width}", render(estimate_view(estimate), width=width))


@pytest.mark.parametrize("width", [80, 120])
def test_golden_estimate_with_what_a_gpus_host_does_besides(golden, render, width):
    wrap = next(phase for phase in TINYLLAMA_8G.phases if phase.name == "wrap")
    host = HostBytes(pinned_bytes=0, pageable_bytes=0, process_bytes=20 * GIB, process_high_bytes=24 * GIB)
    nothing = ByteRange(low_bytes=0, expected_bytes=0, high_bytes=0)
    tokenizing = PhaseEstimate(name="tokenizing", peak=nothing, components={}, host=host)
    resume = replace(wrap, name="resume", anonymous_bytes=0, file_bytes=0, reclaimable_bytes=0)
    estimate = replace(TINYLLAMA_8G, other_phases=(tokenizing, resume))
    golden(f"estimate_besides_on_a_host_{width}", render(estimate_view(estimate), width=width))
