"""What is seen to go wrong while a run goes, on histories made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lplan.planner.events import Metric, Note, Phase, Sample
from lplan.profiles.units import GIB, MIB
from lplan.trainer.guard import Alarm, Guard, Patience

PATIENCE = Patience(least_s=10.0, steps=5.0)


def guard(step_s: float = 1.0, **options: int | None) -> Guard:
    known: dict[str, int | None] = {"limit_bytes": 2 * GIB, "planned_bytes": GIB, "device_total_bytes": None}
    return Guard(**{**known, **options}, step_s=step_s, patience=PATIENCE)  # type: ignore[arg-type]


def metric(step: int, step_s: float = 1.0, **more: int) -> Metric:
    return Metric(t_s=float(step), step=step, loss=1.0, learning_rate=1e-4, tokens=100, step_s=step_s, **more)


def seconds_until_it_hangs(watch: Guard, most: int = 1000, counts: bool = True) -> int | None:
    """After how many looks, one a second."""
    return next((s for s in range(most) if watch.hangs(float(s), counts=counts)), None)


@pytest.mark.parametrize(
    ("phase", "planned_s", "longest_s", "seconds"),
    [
        ("steady step", 1.0, 1.0, 11),
        ("steady step", 1.0, 60.0, 301),  # a machine that is slower than planned has shown it
        ("steady step", 30.0, 1.0, 151),
        ("first step", 1.0, 1.0, 41),
        ("load", 1.0, 0.0, 41),
        ("evaluation", 0.0, 0.0, None),  # what is not a training has no steps
    ],
)
def test_silence_is_measured_in_steps(
    phase: str, planned_s: float, longest_s: float, seconds: int | None
) -> None:
    watch = guard(planned_s)
    watch.event(metric(1, longest_s))
    watch.event(Phase(t_s=2.0, name=phase))
    assert seconds_until_it_hangs(watch) == seconds


def test_any_word_is_a_sign_of_life() -> None:
    watch = guard()
    watch.event(Phase(t_s=0.0, name="steady step"))
    assert not any(watch.hangs(float(s)) for s in range(10))
    watch.event(Note(t_s=9.0, text="still here"))
    assert not any(watch.hangs(float(s)) for s in range(10, 20))
    assert watch.hangs(21.0)


def test_time_in_which_nothing_ran_does_not_count() -> None:
    watch = guard()
    watch.event(Phase(t_s=0.0, name="steady step"))
    assert not watch.hangs(0.0)
    assert not watch.hangs(100_000.0)  # the lid was shut
    assert not watch.hangs(5.0)  # the clock was set back
    assert seconds_until_it_hangs(guard(), counts=False) is None  # stopped by a debugger


def test_memory_that_grows_on_after_caches_were_freed_ends_the_attempt() -> None:
    watch = guard()
    alarms: list[tuple[int, Alarm]] = []
    for step in range(1, 41):
        used = GIB + 20 * MIB * step
        watch.sample(
            Sample(t_s=2.0 * step - 1, rss_bytes=used, anonymous_bytes=used, file_bytes=0, swap_bytes=0)
        )
        alarm = watch.event(replace(metric(step), t_s=2.0 * step))
        alarms += [(step, alarm)] if alarm else []
    (first, free), (second, leave) = alarms
    assert (free.act, leave.act) == ("free caches", "leave")
    # 2 GiB are reached after step 51: a minute before that is step 21, and four points make the second trend.
    assert (first, second) == (22, 26)


def on_a_full_gpu(watch: Guard, times: list[float]) -> list[tuple[int, str]]:
    sample = Sample(
        t_s=0.0, rss_bytes=0, anonymous_bytes=0, file_bytes=0, swap_bytes=0, device_used_bytes=int(7.9 * GIB)
    )
    watch.of_gpu()
    watch.sample(sample)
    alarms = [(step, watch.event(metric(step, step_s))) for step, step_s in enumerate(times, start=1)]
    return [(step, alarm.act) for step, alarm in alarms if alarm is not None]


def test_a_spill_is_recognised_by_step_time() -> None:
    usual = [9.0, 1.0, 1.1, 0.9, 1.0]
    assert on_a_full_gpu(guard(device_total_bytes=8 * GIB), [*usual, 4.0, 4.0, 4.0, 4.0]) == [
        (7, "free caches"),
        (9, "leave"),
    ]


@pytest.mark.parametrize(
    ("times", "total_gib"),
    [
        pytest.param([9.0, 1.0, 1.0, 1.0, 1.0, 4.0, 1.0, 4.0], 8, id="held up now and then"),
        pytest.param([9.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0], 8, id="somewhat slower"),
        pytest.param([9.0, 1.0, 1.0, 1.0, 1.0, 4.0, 4.0, 4.0], 16, id="slow with room left"),
        pytest.param([9.0, 9.0], 8, id="nothing to compare with"),
    ],
)
def test_what_is_no_spill(times: list[float], total_gib: int) -> None:
    assert on_a_full_gpu(guard(device_total_bytes=total_gib * GIB), times) == []
