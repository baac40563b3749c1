import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervision import fake, wait_until

from lplan.planner.events import PhasePeak, Sample
from lplan.trainer import process_tree
from lplan.trainer.gauges import pressure_gauge
from lplan.trainer.monitor import Monitor, Reading
from lplan.trainer.phase_peaks import PhasePeaks
from lplan.trainer.process_tree import ProcessTree, start_of, usage_of

MIB = 2**20


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[ProcessTree]]:
    trees: list[ProcessTree] = []
    yield trees
    for tree in trees:
        tree.kill()


def start(trees: list[ProcessTree], ready: Path, *verbs: str) -> ProcessTree:
    """A fake worker that has done its verbs and now sleeps."""
    process = subprocess.Popen(fake(*verbs, f"write_pid={ready}", "sleep=60"), start_new_session=True)
    tree = ProcessTree(process.pid)
    trees.append(tree)
    assert wait_until(ready.exists)
    return tree


def test_usage_tells_anonymous_from_file_backed(started: list[ProcessTree], tmp_path: Path) -> None:
    plain = start(started, tmp_path / "a").usage()
    holding = start(started, tmp_path / "b", "hold=64").usage()
    assert plain is not None
    assert holding is not None
    assert 62 * MIB < holding.anonymous_bytes - plain.anonymous_bytes < 68 * MIB
    assert abs(holding.file_bytes - plain.file_bytes) < 2 * MIB
    assert plain.rss_bytes == plain.anonymous_bytes + plain.file_bytes
    assert holding.high_water_bytes is not None
    assert holding.high_water_bytes >= holding.rss_bytes - MIB


def test_a_mapped_file_counts_as_file_backed(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(32 * MIB))
    code = (
        "import mmap, sys\n"
        "from lplan.trainer.process_tree import usage_of\n"
        "file = open(sys.argv[1], 'rb'); before = usage_of('self')\n"
        "mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); mapped.find(b'x')\n"
        "after = usage_of('self')\n"
        "print(after.file_bytes - before.file_bytes, after.anonymous_bytes - before.anonymous_bytes)"
    )
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    file_bytes, anonymous_bytes = map(int, result.stdout.split())
    assert 31 * MIB < file_bytes < 34 * MIB
    assert anonymous_bytes < MIB


def test_memory_shared_after_a_fork_counts_once(started: list[ProcessTree], tmp_path: Path) -> None:
    usage = start(started, tmp_path / "ready", "hold=64", "fork=60", "fork=60").usage()
    assert usage is not None
    assert 64 * MIB < usage.anonymous_bytes < 110 * MIB


def test_usage_ends_with_the_root(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    assert wait_until(lambda: start_of(process.pid) is None)
    assert ProcessTree(process.pid).usage() is None
    process.wait()
    assert ProcessTree(process.pid).usage() is None


def test_kill_reaches_children_and_strays(started: list[ProcessTree], tmp_path: Path) -> None:
    tree = start(started, tmp_path / "ready", "child=60", "stray=60")
    tree.usage()
    family = tree.alive()
    assert len(family) == 3
    assert tree.kill()
    assert wait_until(lambda: all(start_of(pid) is None for pid in family))


def test_elsewhere_psutil_sees_the_same_tree(
    started: list[ProcessTree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = start(started, tmp_path / "ready", "hold=64", "child=60")
    exact = usage_of(tree.root)
    monkeypatch.setattr(process_tree, "_LINUX", False)
    usage = tree.usage()
    assert usage is not None
    assert exact is not None
    assert len(tree.alive()) == 2
    assert exact.rss_bytes <= usage.rss_bytes < exact.rss_bytes + 16 * MIB
    tree.kill()
    monkeypatch.undo()
    assert tree.alive() == set()


def test_it_samples_ten_times_a_second_for_little(started: list[ProcessTree], tmp_path: Path) -> None:
    tree = start(started, tmp_path / "ready", "hold=16")
    readings: list[Reading] = []
    monitor = Monitor(
        tree,
        gauges=[lambda: {"cgroup_bytes": 123}, pressure_gauge()],
        on_reading=readings.append,
        started_s=time.monotonic(),
    )
    busy_s = time.process_time()
    monitor.start()
    time.sleep(2)
    monitor.stop()
    busy_s = time.process_time() - busy_s
    assert len(readings) >= 20
    # Half a percent when measured alone; the bound leaves room for a busy machine's cold caches.
    assert busy_s < 0.03 * 2
    assert all(reading.sample.cgroup_bytes == 123 for reading in readings)
    times = [reading.sample.t_s for reading in readings]
    assert times == sorted(times)
    count = len(readings)
    time.sleep(0.25)
    assert len(readings) == count


def reading(t_s: float, rss: int, mark: int | None = None, file: int = 0) -> Reading:
    sample = Sample(t_s=t_s, rss_bytes=rss, anonymous_bytes=rss - file, file_bytes=file, swap_bytes=0)
    return Reading(sample, mark)


def told(t_s: float, name: str, rss: int, file: int = 0) -> PhasePeak:
    return PhasePeak(t_s=t_s, name=name, rss_bytes=rss, anonymous_bytes=rss - file, file_bytes=file)


def test_the_worker_knows_its_peak_better_than_samples() -> None:
    peaks = PhasePeaks(marks_are_reset=True)
    peaks.begin("load", 0.0)
    peaks.add(reading(1.0, 100, mark=100, file=40))
    assert peaks.end(2.0, told(2.0, "load", 170, file=30)) == PhasePeak(
        t_s=2.0, name="load", rss_bytes=170, anonymous_bytes=130, file_bytes=40
    )


def test_samples_of_the_tree_may_exceed_the_worker() -> None:
    peaks = PhasePeaks(marks_are_reset=True)
    peaks.begin("load", 0.0)
    peaks.add(reading(1.0, 300, mark=100))
    peak = peaks.end(2.0, told(2.0, "load", 100))
    assert peak is not None
    assert peak.rss_bytes == 300


def test_a_sudden_end_leaves_the_last_mark() -> None:
    peaks = PhasePeaks(marks_are_reset=True)
    peaks.begin("steady step", 0.0)
    peaks.add(reading(1.0, 100, mark=100))
    peaks.add(reading(1.1, 90, mark=250))
    peak = peaks.end(1.2)
    assert peak is not None
    assert peak.rss_bytes == 250


def test_without_a_reset_the_mark_is_an_older_phases() -> None:
    peaks = PhasePeaks(marks_are_reset=False)
    peaks.begin("wrap", 0.0)
    peaks.add(reading(1.0, 100, mark=900))
    peak = peaks.end(1.2)
    assert peak is not None
    assert peak.rss_bytes == 100


def test_readings_belong_to_the_phase_of_their_time_not_of_their_arrival() -> None:
    peaks = PhasePeaks(marks_are_reset=True)
    peaks.begin("load", 0.0)
    peaks.add(reading(1.0, 500, mark=500))
    peaks.add(reading(2.05, 500, mark=500))  # between the two messages: the old mark
    peaks.add(reading(2.5, 800, mark=800))  # arrived before the message that the phase ended at 2.0
    load = peaks.end(2.0)
    peaks.begin("wrap", 2.1)
    wrap = peaks.end(3.0)
    assert load is not None
    assert wrap is not None
    assert (load.name, load.rss_bytes) == ("load", 500)
    assert (wrap.name, wrap.rss_bytes) == ("wrap", 800)


def test_long_phases_remember_their_early_peak() -> None:
    peaks = PhasePeaks(marks_are_reset=False)
    peaks.begin("steady step", 0.0)
    for tick in range(1000):
        peaks.add(reading(tick / 10, 700 if tick == 3 else 100))
    peak = peaks.end(100.0)
    assert peak is not None
    assert peak.rss_bytes == 700


def test_no_phase_no_peak() -> None:
    peaks = PhasePeaks(marks_are_reset=True)
    peaks.add(reading(1.0, 100, mark=100))
    assert peaks.end(2.0) is None
    peaks.begin("import", 2.0)
    assert peaks.end(2.0) is None


def test_this_process_is_identified_by_its_start() -> None:
    assert start_of(os.getpid()) is not None
    assert start_of(4194304) is None  # beyond pid_max's highest value
