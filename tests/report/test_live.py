"""Watching a run: the live picture, plain lines, and silence."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from lplan.planner.events import Metric, Note, Phase, Sample, Start
from lplan.profiles.units import GIB
from lplan.report.graph import MemoryGraph
from lplan.report.live import LiveView, view_for
from lplan.report.plain import PlainView, QuietView
from lplan.report.process import ProcessView
from lplan.report.summary import MemoryTrack

from .samples import DONE, KILLED, SMOLLM2_2G, run_events


def console(*, terminal: bool = False, width: int = 80, height: int = 24, **options) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=height, **options)


def watched(until_s: float, estimate=SMOLLM2_2G) -> LiveView:
    view = LiveView(console(), estimate)
    for event in run_events(until_s=until_s):
        view.summary.add(event)
    return view


def plain_lines(events, estimate=SMOLLM2_2G) -> list[str]:
    out = console()
    with PlainView(out, estimate) as view:
        for event in events:
            view.handle(event)
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("name", "until_s", "width", "height", "encoding"),
    [
        ("live_80", 61, 80, 24, "utf-8"),
        ("live_120", 61, 120, 40, "utf-8"),
        ("live_ascii_80", 61, 80, 24, "ascii"),
        ("live_loading_80", 7, 80, 24, "utf-8"),
        ("live_done_80", 93, 80, 30, "utf-8"),
        ("live_small_60", 61, 60, 14, "utf-8"),
    ],
)
def test_golden_live(golden, render, name, until_s, width, height, encoding):
    golden(name, render(watched(until_s).picture(), width=width, height=height, encoding=encoding))


def test_golden_live_without_a_plan_by_phases(golden, render):
    golden("live_no_estimate_80", render(watched(61, None).picture()))


def on_a_gpu(event):
    """The run on a GPU that gives it the same plan, while the machine's own memory runs short."""
    if not isinstance(event, Sample):
        return event
    return replace(event, rss_bytes=9 * GIB, anonymous_bytes=9 * GIB, file_bytes=0,
                   device_bytes=event.rss_bytes, pressure_some=12.4)  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_golden_live_on_a_gpu(golden, render, width):
    view = LiveView(console(), SMOLLM2_2G)
    for event in run_events(until_s=61):
        view.summary.add(on_a_gpu(event))
    golden(f"live_gpu_{width}", render(view.picture(), width=width, height=24))


@pytest.mark.parametrize("width", [80, 120])
def test_golden_process(golden, render, width):
    view = ProcessView(console(), "process 4711", 2 * GIB)
    for event in run_events(until_s=61):
        if isinstance(event, Sample):
            view.handle(replace(event, cgroup_bytes=event.rss_bytes + GIB // 8, limit_hits=1204,
                                pressure_some=0.0, device_used_bytes=GIB))  # fmt: skip
    golden(f"process_{width}", render(view.picture(), width=width, height=24))


def test_a_process_without_a_terminal_is_a_line_a_second_and_the_highest():
    out = console()
    with ProcessView(out, "process 4711", None) as view:
        for tick in range(31):
            used = GIB if tick == 5 else GIB // 2
            view.handle(Sample(t_s=tick / 10, rss_bytes=used, anonymous_bytes=used, file_bytes=0,
                               swap_bytes=0, pressure_some=3.6))  # fmt: skip
    lines = out.file.getvalue().splitlines()
    assert len(lines) == 4 + 1
    assert lines[-1] == (
        "at most 1.00 GiB after 0.5 s: 1.00 GiB anonymous, 0.0 MiB file-backed, waiting for memory 4 %"
    )


def test_golden_plain(golden):
    golden("plain", "\n".join(plain_lines(run_events())) + "\n")


@pytest.mark.parametrize("until_s", [0.0, 0.1, 7.0, 61.0, 93.0])
@pytest.mark.parametrize("height", range(6, 41, 2))
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_picture_fits_its_terminal(render, width, height, until_s):
    lines = render(watched(until_s).picture(), width=width, height=height).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= height


def test_the_end_stays_in_sight_on_a_small_terminal(render):
    view = watched(61)
    view.summary.add(replace(KILLED, t_s=61.5))
    text = render(view.picture(), width=60, height=16)
    assert "hint: try --checkpointing full" in text
    assert len(text.splitlines()) < 16


def test_before_the_first_event_it_says_so(render):
    assert render(LiveView(console()).picture()) == "starting …\n"


@pytest.mark.parametrize(
    ("options", "quiet", "kind"),
    [
        ({"terminal": True}, False, LiveView),
        ({"terminal": True, "_environ": {"TERM": "dumb"}}, False, PlainView),
        ({"terminal": False}, False, PlainView),
        ({"terminal": True}, True, QuietView),
    ],
)
def test_the_console_decides_the_view(options, quiet, kind):
    environment = options.pop("_environ", {"TERM": "xterm"})
    assert type(view_for(console(**options, _environ=environment), quiet=quiet)) is kind


def test_live_view_restores_the_cursor_when_the_run_breaks():
    out = console(terminal=True)
    view = LiveView(out, SMOLLM2_2G)
    with pytest.raises(KeyboardInterrupt), view:
        raise KeyboardInterrupt
    text = out.file.getvalue()
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0


def test_live_view_draws_a_few_times_a_second_and_always_at_the_end():
    now = [0.0]
    out = console(terminal=True)
    with LiveView(out, SMOLLM2_2G, clock=lambda: now[0], busy=lambda: 0.0) as view:
        before = drawings(out)
        for event in run_events(until_s=61):
            now[0] += 0.01
            view.handle(event)
        events = now[0] / 0.01
        drawn = drawings(out) - before
        assert now[0] * 3 <= drawn <= now[0] * 8 < events
        before = drawings(out)
        view.handle(replace(DONE, t_s=61.1))
        assert drawings(out) == before + 1


def test_drawings_take_a_percent_of_a_core_however_long_they_wait_for_it():
    now, busy = [0.0], [0.0]

    def spent() -> float:
        """Each look at the clock of the thread finds 15 ms more of its time, and 300 ms gone meanwhile."""
        busy[0] += 0.015
        now[0] += 0.3
        return busy[0]

    out = console(terminal=True)
    with LiveView(out, SMOLLM2_2G, clock=lambda: now[0], busy=spent) as view:
        before = drawings(out)
        for event in run_events(until_s=61):
            now[0] += 0.1
            view.handle(event)
        drawn = drawings(out) - before
    assert now[0] / 2.5 <= drawn <= 1 + now[0] / 1.5  # 15 ms are a percent of 1.5 s


def test_another_width_draws_at_once_on_a_clear_screen():
    out = console(terminal=True, width=120)
    with LiveView(out, SMOLLM2_2G, clock=lambda: 0.0, busy=lambda: 0.0) as view:
        for event in run_events(until_s=20):
            view.handle(event)
        before = len(out.file.getvalue())
        view.handle(next(event for event in run_events(until_s=20) if isinstance(event, Sample)))
        assert len(out.file.getvalue()) == before  # not due
        out.width = 60
        view.handle(next(event for event in run_events(until_s=20) if isinstance(event, Sample)))
        drawn = out.file.getvalue()[before:]
    assert "\x1b[2J\x1b[H" in drawn
    assert drawings(out) >= 1
    picture = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.partition("\x1b[2J\x1b[H")[2])
    assert max(map(len, picture.splitlines())) <= 60


def drawings(out: Console) -> int:
    """Pictures drawn so far: each has one axis."""
    return out.file.getvalue().count("GiB 0└") + out.file.getvalue().count("7.0 s so far")


def test_notes_scroll_by_above_the_picture():
    out = console(terminal=True)
    with LiveView(out, SMOLLM2_2G) as view:
        for event in run_events(until_s=20):
            view.handle(event)
        view.handle(Note(t_s=20.0, text="checkpoint [written]"))
    assert "0:20  checkpoint [written]" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.file.getvalue())


def steps_of(count: int, step_s: float):
    start = next(event for event in run_events(steps=count) if isinstance(event, Start))
    yield start
    for step in range(1, count + 1):
        yield Metric(t_s=step * step_s, step=step, loss=1.0, learning_rate=None, tokens=10, step_s=step_s)


def test_plain_view_prints_a_step_a_second_and_the_last():
    lines = [line for line in plain_lines(steps_of(96, 0.125)) if " step " in line]
    assert len(lines) == 12 + 1
    assert "step 96/96" in lines[-1]


def test_plain_view_warns_of_a_phase_above_its_range():
    lines = [line for line in plain_lines(run_events()) if "above plan" in line]
    assert len(lines) == 1
    assert "load reached" in lines[0]


def test_plain_view_writes_long_lines_unbroken_and_ascii_where_needed():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    with PlainView(Console(file=file, width=40)) as view:
        for event in run_events(until_s=0.0):
            view.handle(event)
    file.flush()
    assert raw.getvalue().decode("ascii").count("\n") == 1
    assert "Instruct > runs/demo" in raw.getvalue().decode("ascii")


def test_quiet_view_prints_the_outcome_alone():
    out = console()
    with QuietView(out) as view:
        for event in run_events():
            view.handle(event)
    assert out.file.getvalue() == "done: 40 steps; the adapter is in runs/demo/adapter\n"


def graph(*, plan: float, budget: float, height: int = 8) -> list[str]:
    """Half a GiB file-backed and half anonymous for ten seconds, in a graph with four columns."""
    track = MemoryTrack()
    for t_s in range(11):
        track.add(
            Sample(
                t_s=float(t_s),
                rss_bytes=GIB,
                anonymous_bytes=GIB // 2,
                file_bytes=GIB // 2,
                swap_bytes=0,
            )
        )
    drawn = MemoryGraph(
        track=track,
        now_s=10.0,
        plan_bytes=int(plan * GIB),
        budget_bytes=int(budget * GIB),
        width=12 + 1 + 24,
        height=height,
    )
    return [line.plain for line in drawn.lines()]


def test_graph_stacks_anonymous_on_file_backed_memory_to_scale():
    lines = graph(plan=1.5, budget=2.0)
    columns = [line[13:14] for line in lines[:8]]
    assert columns == ["━", "╌", " ", " ", "█", "█", "▒", "▒"]


def test_graph_names_its_lines_where_they_are():
    labels = {line[:12].strip(): line[13:14] for line in graph(plan=1.5, budget=2.0)}
    assert labels["budget 2.00"] == "━"
    assert labels["plan 1.50"] == "╌"


def test_graph_keeps_its_columns_straight_with_large_sizes():
    lines = graph(plan=1000.0, budget=1100.0)
    assert {line.index("│") for line in lines[:-1]} == {lines[-1].index("└")}
    assert {len(line) for line in lines} == {12 + 1 + 24}


def test_graph_does_not_flatten_under_a_far_budget():
    lines = graph(plan=1.25, budget=100.0)
    assert not any("━" in line or "budget" in line for line in lines)
    assert sum("█" in line or "▒" in line for line in lines) >= 6


def test_swap_is_mentioned_only_when_it_happens(render):
    view = watched(61)
    assert "swapped" not in render(view.picture(), width=120)
    sample = replace(view.summary.sample, t_s=61.2, swap_bytes=GIB)
    view.summary.add(sample)
    assert "swapped 1.00 GiB" in render(view.picture(), width=120)


def test_phases_unknown_to_the_plan_are_shown_too(render):
    view = watched(61)
    view.summary.add(Phase(t_s=61.2, name="merge"))
    view.summary.add(replace(view.summary.sample, t_s=61.3))
    assert "merge" in render(view.picture(), width=120)
