"""What breaks a run, really done to a real one: what is lost, and what the user reads."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from real_run import kill_when, train
from real_worker import STEPS, fill, learned

from lplan.planner.events import Event, Metric, Note, Phase
from lplan.trainer.checkpoints import list_checkpoints


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fill(tmp_path_factory.mktemp("undisturbed"))
    assert train(folder).outcome.verdict == "done"
    return folder


def phase(name: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Phase) and event.name == name


def step(number: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Metric) and event.step == number


def require_same(one: Path, other: Path) -> None:
    expected, found = learned(one), learned(other)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("when", "where", "most_lost"),
    [
        pytest.param(phase("load"), "during the load phase", 0, marks=pytest.mark.slow),
        pytest.param(phase("wrap"), "during the wrap phase", 0, marks=pytest.mark.slow),
        pytest.param(phase("first step"), "during the first step", 1, marks=pytest.mark.slow),
        (step(5), "during the steady step", 2),
        pytest.param(phase("evaluation"), "during the evaluation", 1, marks=pytest.mark.slow),
        pytest.param(phase("save"), "during the save phase", 0, marks=pytest.mark.slow),
    ],
)
def test_killed_and_continued_learns_the_same(
    undisturbed: Path, tmp_path: Path, when: Callable[[Event], bool], where: str, most_lost: int
) -> None:
    folder = fill(tmp_path / "run")
    killed = train(folder, kill_when(when))
    assert killed.outcome.verdict == "failed"
    assert "killed from outside" in killed.outcome.explanation
    assert where in killed.outcome.explanation
    saved = [checkpoint.step for checkpoint in list_checkpoints(folder / "checkpoints")]
    assert (killed.outcome.step or 0) - max(saved, default=0) <= most_lost
    again = train(folder)
    assert again.outcome.verdict == "done"
    assert again.events[0].t_s >= killed.outcome.t_s
    steps = [metric.step for metric in again.of(Metric)]
    assert steps == list(range(max(saved, default=0) + 1, STEPS + 1))
    require_same(undisturbed, folder)


@pytest.mark.slow
def test_killed_while_resuming(undisturbed: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "run")
    train(folder, kill_when(step(5)))
    assert train(folder, kill_when(phase("resume"))).outcome.verdict == "failed"
    assert train(folder).outcome.verdict == "done"
    require_same(undisturbed, folder)


def test_ctrl_c_finishes_the_step_and_continues_later(undisturbed: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "run", checkpoint_steps=0)
    at_third = step(3)

    def press(event: Event) -> None:
        if at_third(event):
            os.kill(os.getpid(), signal.SIGINT)

    stopped = train(folder, press)
    assert stopped.outcome.verdict == "interrupted"
    (saved,) = list_checkpoints(folder / "checkpoints")
    assert saved.step == stopped.outcome.step
    assert train(folder).outcome.verdict == "done"
    require_same(undisturbed, folder)


def test_a_run_folder_that_is_removed_is_said_in_one_line(tmp_path: Path) -> None:
    folder = fill(tmp_path / "run")
    at_third = step(3)
    ended = train(
        folder, lambda event: shutil.rmtree(folder, ignore_errors=True) if at_third(event) else None
    )
    assert ended.outcome.verdict == "failed"
    assert ended.outcome.explanation == f"the run folder {folder} was removed while the run was going on"


@pytest.mark.slow
def test_a_disk_that_is_full_while_saving_leaves_the_checkpoint_before(
    undisturbed: Path, tmp_path: Path
) -> None:
    """A file-size limit of the worker's own (RLIMIT_FSIZE, 20 kB): its EFBIG takes the way of ENOSPC."""
    import psutil

    folder = fill(tmp_path / "run")
    before = list_checkpoints(undisturbed / "checkpoints")[-1]
    shutil.copytree(before.path, folder / "checkpoints" / before.path.name)

    def squeeze(event: Event) -> None:
        if phase("import")(event):
            for child in psutil.Process().children():
                child.rlimit(psutil.RLIMIT_FSIZE, (20_000, -1))

    full = train(folder, squeeze)
    says = f"no checkpoint after step {STEPS}: File too large; the one after step {before.step} stays"
    assert any(says in note.text for note in full.of(Note))
    assert full.outcome.verdict == "failed"
    assert [checkpoint.step for checkpoint in list_checkpoints(folder / "checkpoints")] == [before.step]
    assert train(folder).outcome.verdict == "done"
    require_same(undisturbed, folder)


def test_a_worker_that_is_asked_for_memory_frees_caches_once_and_goes_on(tmp_path: Path) -> None:
    run = train(fill(tmp_path / "run"), kill_when(step(2), signal.SIGUSR1))
    assert run.outcome.verdict == "done"
    [freed] = [note.text for note in run.of(Note) if note.text.startswith("caches are freed: ")]
    assert freed.endswith(" of the process")
