"""What breaks a run, really done to a real one: each fault, how much it may cost, and what it is to be called.

`tests/trainer/test_faults.py` and `benchmarks/faults.py` both run these.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lplan.planner.events import Event, Metric, Note, Phase
from lplan.profiles.cgroup import writable_memory_group
from lplan.profiles.errors import UsageError
from lplan.trainer.checkpoints import list_checkpoints
from lplan.trainer.guard import Patience

from .tiny_run import Run, fill, kill_when, learned_the_same, once, train, workers

MIB = 2**20
When = Callable[[Event], bool]
Breaks = Callable[[Path], Run]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A row of the fault table. `breaks` makes a run in a folder that is filled, and the fault in it.

    `lost`: the most steps that are done again. `says`: what the user reads, in the explanation or in a note.
    """

    name: str
    breaks: Breaks
    verdict: str
    says: str
    lost: int
    goes_on: bool = True
    """Whether there is something left to continue."""
    quick: bool = False
    """Whether it takes no more than two starts of a worker."""
    possible: Callable[[], bool] = lambda: True


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """What came of a fault. `same`: whether the continued run learned what the undisturbed one did, to the bit."""

    verdict: str
    reads: str
    lost: int | None
    """Steps that had to be done again; None where nothing was left."""
    same: bool | None


def endure(fault: Fault, folder: Path, undisturbed: Path) -> Broken:
    """Let a fault happen to a run in `folder`, and continue it."""
    run = fault.breaks(folder)
    notes = [note.text for note in run.of(Note)]
    reads = next((text for text in (run.outcome.explanation, *notes) if fault.says in text), "")
    if not fault.goes_on:
        return Broken(verdict=run.outcome.verdict, reads=reads, lost=None, same=None)
    done = max((metric.step for metric in run.of(Metric)), default=0)
    again = run if run.outcome.verdict == "done" else train(folder)
    first = (
        min((metric.step for metric in again.of(Metric)), default=done + 1) if again is not run else done + 1
    )
    notes += [note.text for note in again.of(Note)]
    reads = reads or next((text for text in notes if fault.says in text), "")
    same = again.outcome.verdict == "done" and learned_the_same(undisturbed, folder)
    return Broken(verdict=run.outcome.verdict, reads=reads, lost=max(0, done - first + 1), same=same)


def in_phase(name: str) -> When:
    """The worker enters a phase."""
    return lambda event: isinstance(event, Phase) and event.name == name


def at_step(number: int) -> When:
    """A step is done."""
    return lambda event: isinstance(event, Metric) and event.step == number


def killed(when: When) -> Breaks:
    """kill -9."""
    return lambda folder: train(folder, kill_when(when))


def _killed_resuming(folder: Path) -> Run:
    train(folder, kill_when(at_step(5)))
    return train(folder, kill_when(in_phase("resume")))


def _limit_lowered(folder: Path) -> Run:
    """In the run's own control group, as an administrator does it: to hardly more than it holds while it loads."""

    def lower() -> None:
        parent = writable_memory_group()
        assert parent is not None
        (group,) = parent.path.glob(f"lplan-{os.getpid()}-*")
        usage, limit = {
            1: ("memory.usage_in_bytes", "memory.limit_in_bytes"),
            2: ("memory.current", "memory.max"),
        }[parent.version]
        (group / limit).write_text(str(int((group / usage).read_text()) + 4 * MIB))

    return train(folder, once(in_phase("load"), lower))


def _disk_full(folder: Path) -> Run:
    """A file-size limit of the worker's own (RLIMIT_FSIZE, 20 kB): its EFBIG takes the way of ENOSPC."""
    import psutil

    def squeeze() -> None:
        for pid in workers():
            psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (20_000, -1))

    return train(folder, once(at_step(5), squeeze))


def _damaged(harm: Callable[[Path], None]) -> Breaks:
    def breaks(folder: Path) -> Run:
        run = train(folder, kill_when(at_step(5)))
        harm(list_checkpoints(folder / "checkpoints")[0].path / "optimizer.safetensors")
        return run

    return breaks


def _truncate(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size // 2)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _pressed(times: int) -> Breaks:
    """Ctrl-C, so many times."""

    def breaks(folder: Path) -> Run:
        left = [times]

        def press(event: Event) -> None:
            asked = isinstance(event, Note) and event.text.startswith("stopping")
            if (left[0] == times and at_step(3)(event)) or (left[0] and left[0] < times and asked):
                left[0] -= 1
                os.kill(os.getpid(), signal.SIGINT)

        return train(folder, press)

    return breaks


_PARENT = """
import sys
from pathlib import Path
from lplan.benchmarks.tiny_run import train
train(Path(sys.argv[1]))
"""


def _parent_killed(folder: Path) -> Run:
    """Its worker must not linger: it finishes its step, saves and leaves."""
    from lplan.planner.events import Outcome, read
    from lplan.trainer.process_tree import start_of
    from lplan.trainer.run_folder import RunFolder

    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(folder)])
    events = folder / "events.jsonl"
    _until(lambda: events.is_file() and any(map(at_step(3), read(events))), 60)
    (worker,) = workers(parent.pid)
    parent.kill()
    parent.wait()
    gone = _until(lambda: start_of(worker) is None, 20)
    told = "the worker left with its parent" if gone else "the worker lingers"
    if _groups_of(parent.pid):
        told = "the control group lingers"
    end = Outcome(
        t_s=0, verdict="interrupted", explanation=told, hint=None, exit_code=1, phase=None, step=None
    )
    return Run(end, RunFolder(folder), list(read(events)))


def _groups_of(pid: int) -> list[Path]:
    """Groups that the run of a process has left, which the next run would have to remove."""
    around = writable_memory_group()
    return list(around.path.glob(f"lplan-{pid}-*")) if around is not None and around.version == 1 else []


def _until(condition: Callable[[], object], seconds: float) -> bool:
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        if condition():
            return True
        time.sleep(0.02)
    return False


_CLOCK_JUMPS = """
import sys, time
from lplan.trainer import worker
from lplan.trainer.channel import Channel
real, told, metric = time.time, [], Channel.metric
time.time = lambda: real() + (86400, -86400)[len(told) % 2] * bool(told)
Channel.metric = lambda self, **facts: (told.append(facts), metric(self, **facts))
sys.exit(worker.main(sys.argv[1:]))
"""


def _clock_jumps(folder: Path) -> Run:
    """The wall clock, as the worker sees it, goes a day ahead and a day back with every step."""
    return train(folder, command=[sys.executable, "-c", _CLOCK_JUMPS, str(folder)])


def _asleep(folder: Path) -> Run:
    """A laptop that is shut: everything stops for longer than one waits for a hanging worker, and goes on."""

    def sleep() -> None:
        for pid in workers():
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4)
        for pid in workers():
            os.kill(pid, signal.SIGCONT)

    return train(folder, once(at_step(5), sleep), patience=Patience(least_s=3.0, steps=1.0))


_HANGS = """
import sys, threading
from lplan.trainer import worker
from lplan.trainer.channel import Channel
metric = Channel.metric

def hangs(self, *, step, **facts):
    metric(self, step=step, **facts)
    if step == 5:
        threading.Event().wait()

Channel.metric = hangs
sys.exit(worker.main(sys.argv[1:]))
"""


def _hangs(folder: Path) -> Run:
    """A thread that waits for what never comes, with short patience."""
    patience = Patience(least_s=2.0, steps=1.0)
    return train(folder, command=[sys.executable, "-c", _HANGS, str(folder)], patience=patience)


def _removed(folder: Path) -> Run:
    return train(folder, once(at_step(3), lambda: shutil.rmtree(folder, ignore_errors=True)))


def _second_run(folder: Path) -> Run:
    """It is refused, and the first goes on."""
    refused: list[str] = []

    def start_another() -> None:
        try:
            train(folder)
        except UsageError as error:
            refused.append(str(error))

    run = train(folder, once(at_step(3), start_another))
    run.events += [Note(t_s=0, text=text) for text in refused]
    return run


def _has_group() -> bool:
    return writable_memory_group() is not None


_OUTSIDE = "killed from outside (SIGKILL)"
FAULTS: tuple[Fault, ...] = (
    *(
        Fault(
            name=f"kill -9 {name}", breaks=killed(when), verdict="failed", says=_OUTSIDE, lost=lost,
            quick=name == "mid-step",
        )
        for name, when, lost in (
            ("at load", in_phase("load"), 0),
            ("at wrap", in_phase("wrap"), 0),
            ("in the first step", in_phase("first step"), 1),
            ("mid-step", at_step(5), 2),
            ("in evaluation", in_phase("evaluation"), 1),
            ("while saving", in_phase("save"), 0),
        )
    ),
    Fault(name="kill -9 while resuming", breaks=_killed_resuming, verdict="failed", says=_OUTSIDE, lost=0),
    Fault(
        name="limit lowered while running", breaks=_limit_lowered, verdict="out-of-memory", says="lowered its limit",
        lost=0, possible=_has_group,
    ),
    Fault(
        name="disk full during save", breaks=_disk_full, verdict="failed",
        says="no checkpoint after step 6: File too large", lost=4,
    ),
    Fault(
        name="checkpoint truncated", breaks=_damaged(_truncate), verdict="failed", says="bytes instead of", lost=4,
    ),
    Fault(
        name="checkpoint with a flipped bit", breaks=_damaged(_flip), verdict="failed",
        says="has changed since it was written", lost=4,
    ),
    Fault(
        name="SIGTERM to the worker", breaks=lambda folder: train(folder, kill_when(at_step(3), signal.SIGTERM)),
        verdict="interrupted", says="told to end from outside (SIGTERM)", lost=0, quick=True,
    ),
    Fault(
        name="Ctrl-C once", breaks=_pressed(1), verdict="interrupted", says="what was learned is saved", lost=0,
        quick=True,
    ),
    Fault(name="Ctrl-C twice", breaks=_pressed(2), verdict="interrupted", says="without a last save", lost=2),
    Fault(name="parent killed", breaks=_parent_killed, verdict="interrupted", says="left with its parent", lost=1),
    Fault(name="wall clock jumps", breaks=_clock_jumps, verdict="done", says="8 of 8 steps", lost=0),
    Fault(name="asleep, then awake", breaks=_asleep, verdict="done", says="8 of 8 steps", lost=0),
    Fault(
        name="worker hangs", breaks=_hangs, verdict="hang", says="it waits in wait (threading.py:", lost=2, quick=True,
    ),
    Fault(
        name="output folder removed", breaks=_removed, verdict="failed", says="was removed while the run was going on",
        lost=0, goes_on=False, quick=True,
    ),
    Fault(name="second run in the folder", breaks=_second_run, verdict="done", says="another run is going on", lost=0),
)  # fmt: skip


def possible() -> Iterator[Fault]:
    """The faults that can be made here."""
    return (fault for fault in FAULTS if fault.possible())


__all__ = ["FAULTS", "Broken", "Fault", "endure", "fill", "possible"]
