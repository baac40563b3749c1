import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from supervision import FACTS, fake, run_fake, wait_until

from lplan.planner import events
from lplan.planner.events import Event, Metric, Note, Outcome, Phase, PhasePeak, Sample, Start
from lplan.profiles.cgroup import writable_memory_group
from lplan.profiles.errors import LplanError, UsageError
from lplan.trainer.guard import Patience
from lplan.trainer.limit import STRATEGIES, Limiter, by_resource_limit, by_watching
from lplan.trainer.process_tree import reset_high_water, start_of
from lplan.trainer.run_folder import RunFolder
from lplan.trainer.supervise import supervise

MIB, GIB = 2**20, 2**30

real_group = pytest.mark.skipif(writable_memory_group() is None, reason="no control group is writable here")

PARENT = """
import sys
from pathlib import Path
from supervision import run_fake
run = run_fake(Path(sys.argv[1]), *sys.argv[2:])
print(run.outcome.verdict, run.outcome.exit_code)
"""


def with_helpers() -> dict[str, str]:
    """Our environment, with the folder of `supervision` on the path of other interpreters."""
    path = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def gone(pid_file: Path) -> bool:
    return start_of(int(pid_file.read_text())) is None


def test_a_run_is_told_from_start_to_end(tmp_path: Path) -> None:
    run = run_fake(
        tmp_path / "run",
        "phase=load",
        "hold=8",
        "sleep=0.3",
        "phase=first step",
        "step=1",
        "phase=steady step",
        "step=10",
        "say=hello",
        "end_phase",
    )
    assert run.outcome.verdict == "done"
    assert run.outcome.exit_code == 0
    start, outcome = run.events[0], run.events[-1]
    assert isinstance(start, Start)
    assert (start.schema, start.run, start.model, start.budget_bytes) == (events.SCHEMA, "run", "fake", GIB)
    assert outcome == run.outcome
    assert [phase.name for phase in run.of(Phase)] == ["load", "first step", "steady step"]
    assert [peak.name for peak in run.of(PhasePeak)] == ["load", "first step", "steady step"]
    assert [metric.step for metric in run.of(Metric)] == [1, 10]
    assert len(run.of(Sample)) >= 3
    assert list(events.read(run.folder.events)) == run.events
    assert run.folder.log.read_text() == "hello\n"
    told = [e.t_s for e in run.events if isinstance(e, Phase | Metric | PhasePeak)]
    assert told == sorted(told)
    assert 0.3 < run.outcome.t_s < 10


def test_every_peak_is_seen_even_between_samples(tmp_path: Path) -> None:
    if not reset_high_water():
        pytest.skip("processes may not reset their high-water mark here")
    run = run_fake(tmp_path / "run", "phase=load", "spike=128", "phase=wrap", "sleep=0.2", "end_phase")
    load, wrap = run.of(PhasePeak)
    assert 126 * MIB < load.rss_bytes - wrap.rss_bytes < 132 * MIB
    assert load.rss_bytes == load.anonymous_bytes + load.file_bytes


@real_group
def test_the_kernel_holds_the_worker_to_its_budget(tmp_path: Path) -> None:
    where = tmp_path / "group"
    run = run_fake(
        tmp_path / "run",
        f"group={where}",
        "phase=steady step",
        "step=3",
        "hold=400",
        budget_bytes=200 * MIB,
    )
    assert run.outcome.verdict == "out-of-memory"
    assert run.outcome.exit_code == 3
    assert (run.outcome.phase, run.outcome.step) == ("steady step", 3)
    assert "killed by the kernel during the steady step, after step 3" in run.outcome.explanation
    assert "--batch-size" in (run.outcome.hint or "")
    (start,) = run.of(Start)
    assert start.limiter in ("cgroup-v1", "cgroup-v2")
    assert all((sample.cgroup_bytes or 0) <= 200 * MIB for sample in run.of(Sample))
    (peak,) = run.of(PhasePeak)
    assert peak.anonymous_bytes <= 200 * MIB
    parent = writable_memory_group()
    assert parent is not None
    assert f"lplan-{os.getpid()}-" in where.read_text()
    assert not list(parent.path.glob(f"lplan-{os.getpid()}-*"))


@real_group
def test_a_helper_killed_for_memory_ends_the_run(tmp_path: Path) -> None:
    """Version 1 kills only the largest process; a worker that waits for it must not wait forever."""
    hog = "held = [bytearray(b'x' * 2**20) for _ in range(400)]"
    code = (
        f"import subprocess, sys, time; subprocess.run([sys.executable, '-S', '-c', {hog!r}]); time.sleep(60)"
    )
    run = run_fake(tmp_path / "run", command=[sys.executable, "-S", "-c", code], budget_bytes=200 * MIB)
    assert run.outcome.verdict == "out-of-memory"
    assert run.outcome.t_s < 20


def test_watching_ends_what_grows_too_large(tmp_path: Path) -> None:
    run = run_fake(
        tmp_path / "run",
        "phase=load",
        "hold=120",
        "sleep=30",
        budget_bytes=100 * MIB,
        strategies=(by_watching,),
    )
    assert run.of(Start)[0].limiter == "watch"
    assert run.outcome.verdict == "out-of-memory"
    assert "ended by lplan during the load phase: anonymous memory reached" in run.outcome.explanation
    assert run.outcome.t_s < 10


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux only")
def test_a_resource_limit_refuses_and_is_named(tmp_path: Path) -> None:
    run = run_fake(
        tmp_path / "run",
        "phase=load",
        "hold_at_once=3000",
        budget_bytes=100 * MIB,
        strategies=(by_resource_limit,),
    )
    assert run.of(Start)[0].limiter == "rlimit"
    assert run.outcome.verdict == "out-of-memory"
    assert "RLIMIT_DATA refused an allocation during the load phase" in run.outcome.explanation


def test_why_a_weaker_limit_was_taken_is_noted(tmp_path: Path) -> None:
    def refuses(pid: int, limit_bytes: int, mapped_bytes: int) -> Limiter:
        raise OSError("no control group for memory is writable")

    run = run_fake(tmp_path / "run", strategies=(refuses, *STRATEGIES[1:]))
    (note,) = run.of(Note)
    assert "no control group for memory is writable" in note.text
    assert run.of(Start)[0].limiter in note.text


@pytest.mark.parametrize(
    ("verb", "says"),
    [
        ("signal=SIGSEGV", "SIGSEGV"),
        ("signal=SIGABRT", "SIGABRT"),
        ("signal=SIGKILL", "from outside"),
        ("fail=no such layer", "ValueError: no such layer"),
        ("exit=7", "exit status 7"),
    ],
)
def test_crashes_and_exceptions_are_named(tmp_path: Path, verb: str, says: str) -> None:
    run = run_fake(tmp_path / "run", "phase=load", verb)
    assert (run.outcome.verdict, run.outcome.exit_code) == ("failed", 1)
    assert says in run.outcome.explanation
    assert "during the load phase" in run.outcome.explanation


def test_the_workers_own_account_crosses_over(tmp_path: Path) -> None:
    run = run_fake(tmp_path / "run", "tell=the data has changed since", "exit=1")
    assert run.outcome.explanation == "the data has changed since"
    assert (run.outcome.hint, run.outcome.exit_code) == ("turn it off and on", 2)
    assert len(run.of(Outcome)) == 1


@pytest.mark.parametrize("command", [["/no/such/python"], ["/etc/hostname"]])
def test_a_worker_that_cannot_start_is_said(tmp_path: Path, command: list[str]) -> None:
    run = run_fake(tmp_path / "run", command=command)
    assert run.outcome.verdict == "failed"
    assert f"could not be started: cannot start {command[0]}" in run.outcome.explanation


def test_a_machine_that_cannot_launch_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*arguments: object, **options: object) -> object:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", no_more)
    run = run_fake(tmp_path / "run")
    assert "could not be started" in run.outcome.explanation
    assert run.of(Start)[0].limiter == "none"


def interrupt_when(kind: type[Event], times: int = 1) -> Callable[[Event], None]:
    """A viewer who presses Ctrl-C when the first such event comes, and perhaps again."""
    left = [times]

    def press(event: Event) -> None:
        if left[0] and (isinstance(event, kind) or (isinstance(event, Note) and left[0] < times)):
            left[0] -= 1
            os.kill(os.getpid(), signal.SIGINT)

    return press


def test_ctrl_c_once_lets_the_worker_save(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    run = run_fake(
        tmp_path / "run",
        f"save_when_asked={saved}",
        "step=4",
        "sleep=60",
        on_event=interrupt_when(Metric),
    )
    assert saved.read_text() == "saved"
    assert (run.outcome.verdict, run.outcome.exit_code) == ("interrupted", 1)
    assert "4 of 10 steps are done" in run.outcome.explanation
    assert any("once more" in note.text for note in run.of(Note))


def test_ctrl_c_twice_ends_it(tmp_path: Path) -> None:
    run = run_fake(
        tmp_path / "run",
        "ignore=SIGTERM",
        "step=4",
        "sleep=60",
        on_event=interrupt_when(Metric, times=2),
    )
    assert run.outcome.verdict == "interrupted"
    assert "after step 4, without a last save" in run.outcome.explanation
    assert run.outcome.t_s < 10


def test_a_worker_that_does_not_leave_in_time_is_ended(tmp_path: Path) -> None:
    run = run_fake(
        tmp_path / "run",
        "ignore=SIGTERM",
        "step=4",
        "sleep=60",
        on_event=interrupt_when(Metric),
        grace_s=0.5,
    )
    assert run.outcome.verdict == "interrupted"
    assert any("did not leave within 0.5 s" in note.text for note in run.of(Note))


def test_handlers_are_put_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    run_fake(tmp_path / "run")
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize("verbs", [("child={}",), ("child={}", "stray={}", "sleep=0.8")])
def test_nothing_lingers_after_the_worker(tmp_path: Path, verbs: tuple[str, ...]) -> None:
    """Without a control group to find them by: children never sampled, and a daemon that was sampled once."""
    mark = f"61.{os.getpid()}"
    run = run_fake(tmp_path / "run", *(verb.format(mark) for verb in verbs), strategies=(by_watching,))
    assert run.outcome.verdict == "done"
    assert [p for p in psutil.process_iter(["cmdline"]) if mark in (p.info["cmdline"] or [])] == []


def test_a_viewer_that_fails_takes_the_worker_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def fails(event: Event) -> None:
        if isinstance(event, Metric):
            raise RuntimeError("cannot draw")

    with pytest.raises(RuntimeError, match="cannot draw"):
        run_fake(tmp_path / "run", f"write_pid={pid_file}", "step=1", "sleep=60", on_event=fails)
    assert gone(pid_file)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_survives_its_parent(tmp_path: Path, end: signal.Signals) -> None:
    pid_file = tmp_path / "pid"
    command = [sys.executable, "-c", PARENT, str(tmp_path / "run"), f"write_pid={pid_file}", "sleep=60"]
    parent = subprocess.Popen(command, env=with_helpers(), stdout=subprocess.DEVNULL)
    assert wait_until(lambda: pid_file.exists() and pid_file.read_text())
    parent.send_signal(end)
    parent.wait(10)
    assert wait_until(lambda: gone(pid_file))


def test_sigterm_to_the_parent_is_as_ctrl_c(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    verbs = [f"save_when_asked={saved}", f"write_pid={tmp_path / 'pid'}", "sleep=60"]
    command = [sys.executable, "-c", PARENT, str(tmp_path / "run"), *verbs]
    parent = subprocess.Popen(command, env=with_helpers(), stdout=subprocess.PIPE, text=True)
    assert wait_until((tmp_path / "pid").exists)
    parent.terminate()
    output, _ = parent.communicate(timeout=20)
    assert output == "interrupted 1\n"
    assert saved.exists()


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    with folder.lock(), pytest.raises(UsageError, match="another run"):
        run_again(folder)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.events.mkdir()
    with pytest.raises(LplanError, match="cannot write"):
        run_again(folder)


def test_a_full_disk_ends_the_record_and_not_the_run(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.events.symlink_to("/dev/full")
    seen: list[Event] = []
    outcome = run_again(folder, seen)
    assert outcome.verdict == "done"
    notes = [event.text for event in seen if isinstance(event, Note)]
    assert len(notes) == 1
    assert "no longer written: No space left on device" in notes[0]


def run_again(folder: RunFolder, seen: list[Event] | None = None) -> Outcome:
    return supervise(
        fake("step=10"),
        environment={},
        folder=folder,
        start=FACTS,
        budget_bytes=GIB,
        on_event=(seen if seen is not None else []).append,
    )


def test_the_planned_environment_reaches_the_worker(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    began_s = time.monotonic()
    supervise(
        [
            sys.executable,
            "-S",
            "-c",
            "import os; print(os.environ['OMP_NUM_THREADS'], os.getsid(0) == os.getpid())",
        ],
        environment={"OMP_NUM_THREADS": "3"},
        folder=folder,
        start=FACTS,
        budget_bytes=GIB,
        on_event=lambda event: None,
    )
    assert folder.log.read_text() == "3 True\n"
    assert time.monotonic() - began_s < 10


def test_before_the_limit_it_warns_once_and_asks_for_memory(tmp_path: Path) -> None:
    """The worker doesn't listen: asking must not end it. A few MiB at a time it then comes to its limit."""
    run = run_fake(
        tmp_path / "run",
        "hold=200",
        *["hold=1", "sleep=0.06"] * 60,
        budget_bytes=256 * MIB,
        strategies=[by_watching],
    )
    [warning] = [note.text for note in run.of(Note) if "nearly used up" in note.text]
    assert "asked to free caches" in warning
    assert run.outcome.verdict == "out-of-memory"


def test_a_leak_that_goes_on_after_caches_were_freed_ends_in_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lplan.planner.trend._LEAST_SPAN_S", 0.05)
    leaks = [verb for step in range(1, 40) for verb in ("hold=2", "sleep=0.1", f"step={step}")]
    saved = tmp_path / "saved"
    run = run_fake(
        tmp_path / "run", f"save_when_asked={saved}", "phase=steady step", "hold=120", *leaks, "sleep=60",
        budget_bytes=400 * MIB, strategies=[by_watching],
    )  # fmt: skip
    freed, left = (note.text for note in run.of(Note))
    assert "asked to free caches" in freed
    assert "though caches were freed; the worker finishes its step, saves and leaves" in left
    assert saved.read_text() == "saved"
    assert (run.outcome.verdict, run.outcome.exit_code) == ("out-of-memory", 3)
    assert "before the limit: memory grows from step to step" in run.outcome.explanation
    assert "what was learned is saved" in run.outcome.explanation


def test_a_silent_worker_is_ended_with_its_stacks(tmp_path: Path) -> None:
    run = run_fake(
        tmp_path / "run", "phase=steady step", "step=3", "hang",
        patience=Patience(least_s=1.0, steps=2.0), strategies=[by_watching],
    )  # fmt: skip
    assert (run.outcome.verdict, run.outcome.exit_code, run.outcome.step) == ("hang", 1, 3)
    assert "during the steady step, after step 3: it waits in wait (threading.py:" in run.outcome.explanation
    assert "most recent call first" in run.folder.log.read_text()
    assert str(run.folder.log) in (run.outcome.hint or "")


def test_a_resumed_run_has_done_the_steps_before_its_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    (folder.checkpoints / "step-00000006").mkdir()
    outcome = supervise(
        fake("phase=load", "exit=1"), environment={}, folder=folder, start=FACTS, budget_bytes=2**30,
        on_event=lambda _: None,
    )  # fmt: skip
    assert outcome.step == 6
    assert "during the load phase, after step 6" in outcome.explanation
