"""What breaks a run, really done to a real one (benchmarks/fault_cases.py): what is lost, and what the user reads."""

from pathlib import Path

import pytest
from real_run import kill_when, train
from real_worker import fill

from lplan.benchmarks.fault_cases import FAULTS, Fault, at_step, endure
from lplan.planner.events import Note


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fill(tmp_path_factory.mktemp("undisturbed"))
    assert train(folder).outcome.verdict == "done"
    return folder


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, id=fault.name, marks=[] if fault.quick else pytest.mark.slow) for fault in FAULTS],
)
def test_no_more_is_lost_than_promised(undisturbed: Path, tmp_path: Path, fault: Fault) -> None:
    if not fault.possible():
        pytest.skip("this machine does not let that happen")
    broken = endure(fault, fill(tmp_path / "run"), undisturbed)
    assert broken.verdict == fault.verdict
    assert fault.says in broken.reads
    if fault.goes_on:
        assert broken.lost is not None
        assert broken.lost <= fault.lost
        assert broken.same


def test_a_worker_that_is_asked_for_memory_frees_caches_once_and_goes_on(tmp_path: Path) -> None:
    import signal

    run = train(fill(tmp_path / "run"), kill_when(at_step(2), signal.SIGUSR1))
    assert run.outcome.verdict == "done"
    [freed] = [note.text for note in run.of(Note) if note.text.startswith("caches are freed: ")]
    assert freed.endswith(" of the process")
