import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lplan.planner.events import Sample
from lplan.profiles.cgroup import ParentGroup, writable_memory_group
from lplan.trainer.cgroup_limit import ControlGroup, sweep
from lplan.trainer.limit import (
    Limiter,
    Watch,
    by_control_group,
    by_resource_limit,
    by_watching,
    impose,
)
from lplan.trainer.process_tree import start_of

MIB, GIB = 2**20, 2**30
PARENT = writable_memory_group()

real_group = pytest.mark.skipif(PARENT is None, reason="no control group is writable here")

# From Documentation/admin-guide/cgroup-v2.rst (memory.events) and cgroup-v1/memory.rst (memory.oom_control).
V2_EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n"
V1_OOM_CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"


def parent_group() -> ParentGroup:
    assert PARENT is not None
    return PARENT


def python(code: str, *, group: ControlGroup | None = None) -> subprocess.Popen[bytes]:
    """A Python process that runs `code` once it is in the group."""
    command = [sys.executable, "-S", "-c", f"import sys; sys.stdin.readline()\n{code}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if group is not None:
        group.add(process.pid)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.close()
    return process


@pytest.fixture
def group() -> Iterator[ControlGroup]:
    made = ControlGroup.create(parent_group(), 200 * MIB)
    yield made
    made.close()


@real_group
def test_the_kernel_kills_beyond_the_limit(group: ControlGroup) -> None:
    held = "held = [bytearray(b'x' * 2**20) for _ in range(400)]"
    assert python(held, group=group).wait(20) == -signal.SIGKILL
    assert group.oom_kills() == 1
    peak_bytes = group.peak_bytes()
    assert peak_bytes is None or 196 * MIB <= peak_bytes <= 200 * MIB


@real_group
def test_the_kernel_leaves_what_fits(group: ControlGroup) -> None:
    held = "held = [bytearray(b'x' * 2**20) for _ in range(150)]"
    assert python(held, group=group).wait(20) == 0
    assert group.oom_kills() == 0
    assert not group.exceeded(sample(anonymous_bytes=10 * GIB))
    peak_bytes = group.peak_bytes()
    assert peak_bytes is None or 150 * MIB <= peak_bytes <= 170 * MIB


@real_group
def test_usage_and_members_are_the_processes_inside(group: ControlGroup) -> None:
    process = python("import time; held = bytearray(64 * 2**20); time.sleep(60)", group=group)
    deadline_s = time.monotonic() + 10
    while (group.usage_bytes() or 0) < 64 * MIB and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert 64 * MIB <= (group.usage_bytes() or 0) <= 90 * MIB
    assert group.members() == {process.pid}
    process.kill()
    process.wait()


@real_group
def test_closing_ends_the_members_and_removes_the_group(group: ControlGroup) -> None:
    process = python("import time; time.sleep(60)", group=group)
    group.close()
    assert process.wait(5) == -signal.SIGKILL
    assert not group.path.exists()
    assert group.usage_bytes() is None
    assert group.members() == set()


@real_group
def test_groups_of_dead_runs_are_swept_and_those_of_live_ones_stay(group: ControlGroup) -> None:
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    stale = parent_group().path / f"lplan-{dead.pid}-1.1"
    # The number is in use again, by another process than the run's.
    reused = parent_group().path / f"lplan-{os.getpid()}-{(start_of(os.getpid()) or 0) + 1}.1"
    foreign = parent_group().path / "lplan-notes"
    for path in (stale, reused, foreign):
        path.mkdir()
    lingering = python("import time; time.sleep(60)", group=ControlGroup(parent_group().version, stale, 0))
    try:
        sweep(parent_group())
        assert lingering.wait(5) == -signal.SIGKILL
        assert not stale.exists()
        assert not reused.exists()
        assert foreign.exists()
        assert group.path.exists()
    finally:
        foreign.rmdir()


@real_group
def test_a_control_group_takes_the_worker_in_and_dead_runs_out() -> None:
    process = python("import time; time.sleep(60)")
    stale = parent_group().path / "lplan-4194304-1.1"  # beyond pid_max: never a process
    stale.mkdir()
    limiter = by_control_group(process.pid, 256 * MIB, 0)
    assert not stale.exists()
    assert limiter.name in ("cgroup-v1", "cgroup-v2")
    assert limiter.members() == {process.pid}
    limiter.close()
    assert process.wait(5) == -signal.SIGKILL


@pytest.fixture
def kernel_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ParentGroup:
    """A folder in which making a group fills it with version 2's files, as the kernel does."""
    mkdir = Path.mkdir

    def make_group(self: Path) -> None:
        mkdir(self)
        for name in ("cgroup.procs", "memory.max", "memory.swap.max", "memory.oom.group"):
            (self / name).write_text("")
        (self / "memory.current").write_text("4096\n")
        (self / "memory.peak").write_text("8192\n")
        (self / "memory.events").write_text(V2_EVENTS)

    monkeypatch.setattr(Path, "mkdir", make_group)
    monkeypatch.setattr(Path, "rmdir", shutil.rmtree)
    return ParentGroup(version=2, path=tmp_path)


def test_version_2_bounds_memory_without_swap_and_kills_all(kernel_folder: ParentGroup) -> None:
    group = ControlGroup.create(kernel_folder, 2 * GIB)
    assert group.name == "cgroup-v2"
    assert (group.path / "memory.max").read_text() == "2147483648"
    assert (group.path / "memory.swap.max").read_text() == "0"
    assert (group.path / "memory.oom.group").read_text() == "1"
    assert (group.usage_bytes(), group.peak_bytes(), group.oom_kills()) == (4096, 8192, 2)
    group.add(12345)
    assert (group.path / "cgroup.procs").read_text() == "12345"


def test_version_2_before_linux_5_19_keeps_no_peak(kernel_folder: ParentGroup) -> None:
    group = ControlGroup.create(kernel_folder, GIB)
    (group.path / "memory.peak").unlink()
    assert group.peak_bytes() is None


def test_version_1_counts_kills_in_oom_control(tmp_path: Path) -> None:
    (tmp_path / "memory.oom_control").write_text(V1_OOM_CONTROL)
    assert ControlGroup(1, tmp_path, GIB).oom_kills() == 4


def test_a_group_of_another_process_namespace_is_left_alone(kernel_folder: ParentGroup) -> None:
    group = ControlGroup.create(kernel_folder, GIB)
    stale = group.path.rename(kernel_folder.path / "lplan-4194304-1.1")  # beyond pid_max: never a process
    (stale / "cgroup.procs").write_text("0\n")
    sweep(kernel_folder)
    assert stale.exists()
    (stale / "cgroup.procs").write_text("")
    sweep(kernel_folder)
    assert not stale.exists()


def test_a_group_that_cannot_be_limited_is_removed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text = Path.write_text

    def refuse(self: Path, text: str) -> int:
        if self.name == "memory.max":
            raise PermissionError("read-only")
        return write_text(self, text)

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(PermissionError):
        ControlGroup.create(ParentGroup(version=2, path=tmp_path), GIB)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux only")
def test_a_resource_limit_refuses_what_is_beyond_budget_and_slack() -> None:
    ask = "import mmap; mmap.mmap(-1, {} * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)"
    for mib, status in ((1024 + 100, 0), (1024 + 300, 1)):
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", f"input()\n{ask.format(mib)}"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        limiter = by_resource_limit(process.pid, 100 * MIB, 100 * MIB)
        process.communicate(b"\n", timeout=20)
        assert process.returncode == status, mib
        assert limiter.name == "rlimit"


def sample(*, anonymous_bytes: int = 0, file_bytes: int = 0, swap_bytes: int = 0) -> Sample:
    return Sample(
        t_s=0.0,
        rss_bytes=anonymous_bytes + file_bytes,
        anonymous_bytes=anonymous_bytes,
        file_bytes=file_bytes,
        swap_bytes=swap_bytes,
    )


@pytest.mark.parametrize(
    ("seen", "exceeded"),
    [
        (sample(anonymous_bytes=GIB), False),
        (sample(anonymous_bytes=GIB + 1), True),
        (sample(anonymous_bytes=GIB, swap_bytes=1), True),
        (sample(anonymous_bytes=GIB // 2, file_bytes=GIB), False),
    ],
)
def test_watching_counts_what_the_kernel_cannot_drop(seen: Sample, exceeded: bool) -> None:
    assert by_watching(1, GIB, 0).exceeded(seen) is exceeded


def refuses(pid: int, limit_bytes: int, mapped_bytes: int) -> Limiter:
    raise PermissionError(13, "Permission denied", "/sys/fs/cgroup/memory")


def test_the_first_strategy_that_works_is_taken_and_the_refusals_are_told() -> None:
    limiter, refusals = impose(1, GIB, 0, (refuses, by_watching, by_resource_limit))
    assert limiter.name == "watch"
    assert limiter.limit_bytes == GIB
    assert refusals == ("[Errno 13] Permission denied: '/sys/fs/cgroup/memory'",)


def test_without_any_strategy_the_run_is_watched() -> None:
    limiter, refusals = impose(1, GIB, 0, (refuses,))
    assert isinstance(limiter, Watch)
    assert len(refusals) == 1
