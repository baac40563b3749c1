"""`lplan report`, `why` and `watch` as a user meets them."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command_line import CommandLine

from lplan.planner.events import SCHEMA, Outcome, Start, to_line
from lplan.trainer.run_folder import RunFolder

LOG = (
    "CUDA out of memory. Tried to allocate 496.00 MiB. GPU 0 has a total capacity of 14.75 GiB of which 235.06 MiB is "
    "free. Of the allocated memory 14.06 GiB is allocated by PyTorch, and 10.42 MiB is reserved by PyTorch but "
    "unallocated."
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "work" / "ended"
    folder.mkdir(parents=True, exist_ok=True)
    start = Start(
        t_s=0.0, schema=SCHEMA, run="ended", model="tiny", budget_bytes=2**30, limiter="none",
        planned_peak_bytes=2**29, total_steps=3, time="2026-08-20T09:00:00+00:00",
    )  # fmt: skip
    end = Outcome(
        t_s=4.0, verdict="out-of-memory", explanation="killed at its limit", hint="lower --batch-size",
        exit_code=3, phase="load", step=None,
    )  # fmt: skip
    (folder / "events.jsonl").write_text(to_line(start) + to_line(end), encoding="utf-8")
    return folder


def test_a_run_is_reported_where_it_is(lplan: CommandLine, run: Path) -> None:
    assert lplan("report", str(run)).status == 0
    assert "killed at its limit" in (run / "report.html").read_text("utf-8")
    assert lplan("report", str(run), "--json").document["schema"] == "lplan.report/1"


def test_an_end_is_explained_with_its_hint(lplan: CommandLine, run: Path) -> None:
    told = lplan("why", str(run))
    assert "killed at its limit" in told.out
    assert "lower --batch-size" in told.out
    assert lplan("why", str(run), "--json").document["outcome"]["verdict"] == "out-of-memory"


def test_a_log_is_explained_with_the_next_knob(lplan: CommandLine, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(LOG, encoding="utf-8")
    told = lplan("why", "--log", str(log))
    assert "0.48 GiB found no room" in told.out
    assert "try: --batch-size 1" in told.out
    assert lplan("why", "--log", str(log), "--json").document["figures"]["tried"] == 496 << 20


def test_an_ended_run_is_watched_to_its_end(lplan: CommandLine, run: Path) -> None:
    assert "killed at its limit" in lplan("watch", str(run)).out


def test_a_process_is_watched_as_one_document(lplan: CommandLine) -> None:
    code = "held = bytearray(b'x' * (64 << 20)); import time; time.sleep(2)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        threading.Thread(target=process.wait, daemon=True).start()  # a zombie has no memory
        document = lplan("watch", "--pid", str(process.pid), "--json").document
    assert document["schema"] == "lplan.watch/1"
    assert document["pid"] == process.pid
    assert document["highest"]["anonymous_bytes"] >= 64 << 20
    assert document["watched_s"] > 0


@pytest.mark.parametrize(
    "words",
    [
        ("why",),
        ("why", "run", "--log", "file"),
        ("why", "absent"),
        ("why", "--log", "absent"),
        ("watch",),
        ("watch", "absent"),
        ("watch", "run", "--json"),
        ("watch", "--pid", str(2**30)),
        ("report", "absent"),
        ("report", "."),
        ("evaluate", "absent"),
        ("evaluate", "."),
        ("evaluate", ".", "--samples", "0"),
        ("merge", "absent", "--output", "new"),
        ("merge", ".", "--output", "new"),
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_refused_in_one_line(lplan: CommandLine, words: tuple[str, ...]) -> None:
    error, hint = lplan(*words).refused(2)
    assert error
    assert hint


def test_why_tells_a_run_that_goes_on_from_one_whose_lplan_was_killed(lplan: CommandLine, run: Path) -> None:
    (run / "events.jsonl").write_text((run / "events.jsonl").read_text("utf-8").splitlines(True)[0], "utf-8")
    killed = lplan("why", str(run))
    assert killed.status == 0
    assert f"continue with `lplan fit-and-train --resume {run}`" in killed.out
    with RunFolder(run).lock():
        going = lplan("why", str(run))
    assert going.out.startswith(f"the run is still going: see `lplan watch {run}`")
