"""The table at the end of a run, and what it is gathered from."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lplan.planner.events import Metric, Outcome, PhasePeak, Sample, Start
from lplan.profiles.units import GIB
from lplan.report.run import error_of, outcome_line, run_table
from lplan.report.summary import MemoryTrack, RunSummary

from .samples import DONE, KILLED, PLAN, SMOLLM2_2G, run_events

TIME = replace(PLAN.time, tokens_per_s=201.4)


@pytest.fixture(scope="module")
def done():
    return RunSummary.from_events(run_events())


@pytest.mark.parametrize("width", [80, 120])
def test_golden_run(golden, render, done, width):
    view = run_table(SMOLLM2_2G, tuple(done.peaks.values()), done.outcome, summary=done, time=TIME)
    golden(f"run_{width}", render(view, width=width))


def test_golden_killed_run(golden, render):
    killed = RunSummary.from_events(run_events(until_s=51))
    view = run_table(SMOLLM2_2G, tuple(killed.peaks.values()), KILLED, summary=killed, time=TIME)
    golden("run_killed_80", render(view, width=80))


def peak(name: str, rss_bytes: int) -> PhasePeak:
    return PhasePeak(t_s=1.0, name=name, rss_bytes=rss_bytes, anonymous_bytes=rss_bytes, file_bytes=0)


def sample(t_s: float, rss_bytes: int) -> Sample:
    return Sample(t_s=t_s, rss_bytes=rss_bytes, anonymous_bytes=rss_bytes, file_bytes=0, swap_bytes=0)


@pytest.mark.parametrize(
    ("predicted", "measured", "text"),
    [(110, 100, "+10.0 %"), (90, 100, "-10.0 %"), (1000, 997, "+0.3 %"), (5, 5, "+0.0 %"), (5, 0, "")],
)
def test_error_is_of_the_measurement_and_too_low_is_negative(predicted, measured, text):
    assert error_of(predicted, measured) == text


@pytest.mark.parametrize(
    ("distance_bytes", "word"),
    [(-(10**8), "below"), (0, "yes"), (10**8, "ABOVE")],
)
def test_range_is_two_sided(render, distance_bytes, word):
    steady = next(phase for phase in SMOLLM2_2G.phases if phase.name == "steady step")
    measured = peak("steady step", steady.peak.expected_bytes + distance_bytes)
    text = render(run_table(SMOLLM2_2G, (measured,), DONE))
    line = next(line for line in text.splitlines() if line.startswith("steady step"))
    assert word in line


@pytest.mark.parametrize(
    ("largest", "where"),
    [
        ("steady step", "in a steady step"),
        ("load", "measured while loading the model, predicted in a steady step"),
    ],
)
def test_the_peak_names_its_phase(render, largest, where):
    peaks = [peak(name, 2 * GIB if name == largest else GIB) for name in ("load", "steady step")]
    text = render(run_table(SMOLLM2_2G, peaks, DONE), width=120)
    line = next(line for line in text.splitlines() if line.startswith("peak: "))
    # 343 runtime + 256.6 weights + 4 x 1.76 adapters and states + 960 step + 24 slack = 1590.6 of 2048 MiB
    assert line.startswith("peak: 2.00 GiB measured, 1.55 GiB predicted (-22.3 %), ")
    assert line.endswith(where)


def test_a_phase_that_never_ended_shows_what_samples_saw(render):
    summary = RunSummary.from_events(run_events(until_s=51))
    text = render(run_table(SMOLLM2_2G, tuple(summary.peaks.values()), KILLED, summary=summary))
    rows = [line for line in text.splitlines() if line.startswith(("steady step  ", "save  "))]
    assert ["≥" in row for row in rows] == [True, False]
    assert rows[1].endswith("–")


def test_large_sizes_leave_out_columns_instead_of_digits(render, done):
    phases = tuple(
        replace(
            phase,
            peak=type(phase.peak)(low_bytes=900 * GIB, expected_bytes=1000 * GIB, high_bytes=1100 * GIB),
        )
        for phase in SMOLLM2_2G.phases
    )
    peaks = [peak(phase.name, 1000 * GIB) for phase in phases]
    text = render(run_table(replace(SMOLLM2_2G, phases=phases), peaks, DONE), width=60)
    assert "…" not in text
    assert "900.00–1100.00" in text
    assert max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize(
    ("verdict", "word"),
    [
        ("done", "done"),
        ("interrupted", "interrupted"),
        ("out-of-memory", "out of memory"),
        ("failed", "failed"),
    ],
)
def test_outcome_line(verdict, word):
    outcome = Outcome(
        t_s=1.0, verdict=verdict, explanation="so [it] went", hint="try X", exit_code=1, phase=None, step=None
    )
    assert outcome_line(outcome).plain == f"{word}: so [it] went\nhint: try X"
    assert outcome_line(replace(outcome, hint=None)).plain == f"{word}: so [it] went"


def test_a_run_without_an_end_says_so():
    assert outcome_line(None).plain.startswith("no end recorded")


def test_summary_counts_what_the_events_say(done):
    assert (done.steps, done.tokens) == (40, 40 * 380)
    assert done.tokens_per_s == pytest.approx(380 / 1.82)
    assert done.left_s is None
    assert done.outcome == DONE
    assert len(done.losses) == 40


def test_a_phase_entered_again_keeps_its_larger_peak():
    summary = RunSummary.from_events([peak("evaluation", 5), peak("evaluation", 9), peak("evaluation", 7)])
    assert summary.peaks["evaluation"].rss_bytes == 9
    assert summary.reached == {"evaluation": 9}


def test_time_left_follows_the_pace_of_the_last_steps():
    start = next(event for event in run_events() if isinstance(event, Start))
    steps = [
        Metric(t_s=10.0 + 3 * step, step=step, loss=None, learning_rate=None, tokens=1, step_s=2.0)
        for step in range(1, 11)
    ]
    summary = RunSummary.from_events([start, *steps])
    assert summary.left_s == pytest.approx(30 * 3.0)
    summary.add(sample(41.0, 1))
    assert summary.left_s == pytest.approx(30 * 3.0 - 1.0)


@given(sizes=st.lists(st.integers(0, 2**40), min_size=1, max_size=300), columns=st.integers(1, 90))
def test_memory_track_is_bounded_and_never_loses_the_largest(sizes, columns):
    track = MemoryTrack(capacity=16)
    for t_s, size in enumerate(sizes):
        track.add(sample(float(t_s), size))
    drawn = list(track.columns(columns, float(len(sizes))))
    assert len(drawn) == columns
    assert max(point.used_bytes for point in drawn if point) == max(sizes)
    assert len(track) <= 16


def test_memory_track_has_gaps_before_the_first_sample_and_holds_after_the_last():
    track = MemoryTrack()
    track.add(sample(5.0, 7))
    assert [point.used_bytes if point else None for point in track.columns(4, 8.0)] == [None, None, 7, 7]
