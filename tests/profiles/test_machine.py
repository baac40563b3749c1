"""Detection, on planted machines and on this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from fake_linux import plant, v2_group

from lplan.profiles import machine
from lplan.profiles.cpu import this_cpu
from lplan.profiles.machine import diagnose, memory_limits, system_reserve, this_machine
from lplan.profiles.units import GIB, MIB

CONTAINER = {
    "/proc/self/cgroup": "0::/",
    "/proc/self/mountinfo": "1580 1571 0:29 / /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw",
}
INTEL = (
    "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8481C\n"
    "flags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16\n"
)
SECOND = "processor\t: 1\nmodel name\t: the second\nflags\t\t: fpu amx_int8\n"
GRAVITON = "processor\t: 0\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd sve i8mm bf16\n"


def threads(root: Path, siblings: Sequence[str]) -> Path:
    return plant(
        root,
        {
            f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list": text
            for number, text in enumerate(siblings)
        },
    )


def allow(monkeypatch: pytest.MonkeyPatch, allowed: set[int]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed, raising=False)


def host(monkeypatch: pytest.MonkeyPatch, total_bytes: int, available_bytes: int) -> None:
    memory = SimpleNamespace(total=total_bytes, available=available_bytes)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


@pytest.mark.parametrize(
    ("siblings", "allowed", "quota", "cores"),
    [
        pytest.param(["0", "1"], {0, 1}, "max 100000", 2, id="no-hyper-threads"),
        pytest.param(["0-1", "0-1", "2-3", "2-3"], {0, 1, 2, 3}, "max 100000", 2, id="pairs"),
        pytest.param(["0,2", "1,3", "0,2", "1,3"], {0, 2}, "max 100000", 1, id="affinity-to-one-core"),
        pytest.param(["0,2", "1,3", "0,2", "1,3"], {0, 1}, "max 100000", 2, id="affinity-to-two-cores"),
        pytest.param(["0", "1", "2", "3"], {0, 1, 2, 3}, "250000 100000", 2, id="quota-rounds-down"),
        pytest.param(["0", "1", "2", "3"], {0, 1, 2, 3}, "50000 100000", 1, id="quota-below-one-core"),
        pytest.param(["0", "1"], {0, 1}, "800000 100000", 2, id="quota-above-the-machine"),
    ],
)
def test_cores_are_physical_allowed_and_within_the_quota(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    siblings: list[str],
    allowed: set[int],
    quota: str,
    cores: int,
) -> None:
    allow(monkeypatch, allowed)
    plant(threads(tmp_path, siblings), CONTAINER | {"/sys/fs/cgroup/cpu.max": quota})
    cpu = this_cpu(tmp_path)
    assert (cpu.cores, cpu.threads) == (cores, len(allowed))


def test_without_topology_psutil_counts_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, set(range(8)))
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 8 if logical else 4)
    assert this_cpu(tmp_path).cores == 4


def test_without_affinity_all_processors_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: None)
    cpu = this_cpu(tmp_path)
    assert (cpu.cores, cpu.threads) == (6, 6)
    assert cpu.features == ()
    assert cpu.model


@pytest.mark.parametrize(
    ("cpuinfo", "features"),
    [
        pytest.param(
            INTEL + "\n" + SECOND, ("avx2", "avx512f", "avx512_bf16", "amx_bf16"), id="x86-first-entry"
        ),
        pytest.param(GRAVITON, ("sve", "i8mm", "bf16"), id="arm"),
        pytest.param("flags : avx512_bf16_not\n", (), id="whole-words"),
    ],
)
def test_features_of_proc_cpuinfo(tmp_path: Path, cpuinfo: str, features: tuple[str, ...]) -> None:
    plant(tmp_path, {"/proc/cpuinfo": cpuinfo})
    assert this_cpu(tmp_path).features == features


def test_model_name_of_proc_cpuinfo(tmp_path: Path) -> None:
    plant(tmp_path, {"/proc/cpuinfo": INTEL})
    assert this_cpu(tmp_path).model == "Intel(R) Xeon(R) Platinum 8481C"


@pytest.mark.parametrize(
    ("total_bytes", "reserve_bytes"),
    [
        (GIB, 256 * MIB),
        (4 * GIB, 256 * MIB),
        (8 * GIB, 512 * MIB),
        (16 * GIB, GIB),
        (1024 * GIB, GIB),
    ],
)
def test_reserve_is_a_sixteenth_within_bounds(total_bytes: int, reserve_bytes: int) -> None:
    assert system_reserve(total_bytes) == reserve_bytes


def test_host_memory_is_bounded_by_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, 64 * GIB, 60 * GIB)
    plant(tmp_path, CONTAINER | v2_group("/sys/fs/cgroup", limit=8 * GIB, high=6 * GIB))
    found = this_machine(tmp_path)
    assert (found.name, found.memory_bytes, found.reserve_bytes) == ("this-machine", 6 * GIB, 384 * MIB)


def test_limits_are_what_each_leaves_tightest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, 64 * GIB, 6 * GIB)
    monkeypatch.setattr(machine, "_resource_limits", lambda: ())
    stat = f"inactive_file {GIB}"
    plant(
        tmp_path,
        CONTAINER | v2_group("/sys/fs/cgroup", limit=8 * GIB, high=7 * GIB, current=4 * GIB, stat=stat),
    )
    limits = memory_limits(tmp_path)
    assert [(limit.name, limit.limit_bytes) for limit in limits] == [
        ("memory.high", 4 * GIB),
        ("control group", 5 * GIB),
        ("free memory", 6 * GIB),
        ("total memory", 64 * GIB),
    ]
    sources = {limit.name: limit.source for limit in limits}
    assert sources["control group"] == "8.00 GiB less 3.00 GiB in use, /sys/fs/cgroup/memory.max"
    assert sources["memory.high"] == "7.00 GiB less 3.00 GiB in use, /sys/fs/cgroup/memory.high"


def test_group_that_holds_more_than_its_limit_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host(monkeypatch, 64 * GIB, 60 * GIB)
    plant(tmp_path, CONTAINER | v2_group("/sys/fs/cgroup", limit=2 * GIB, current=3 * GIB))
    assert memory_limits(tmp_path)[0].limit_bytes == 0


@pytest.mark.skipif(sys.platform != "linux", reason="resource limits on memory are enforced on Linux only")
def test_resource_limits_are_found() -> None:
    script = (
        "import resource; from lplan.profiles.machine import memory_limits\n"
        f"resource.setrlimit(resource.RLIMIT_DATA, ({512 * GIB}, {1024 * GIB}))\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({256 * GIB}, {1024 * GIB}))\n"
        "print({limit.name: limit.limit_bytes for limit in memory_limits()})"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f"'RLIMIT_DATA': {512 * GIB}" in result.stdout
    assert f"'RLIMIT_AS': {256 * GIB}" in result.stdout


def test_this_machine_agrees_with_the_system() -> None:
    found = this_machine()
    assert found.source == "detected"
    assert 0 < found.memory_bytes <= psutil.virtual_memory().total
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.reserve_bytes < found.memory_bytes


def test_diagnosis_names_versions_without_importing_them() -> None:
    script = (
        "import sys; from lplan.profiles.machine import diagnose; print(diagnose().versions['torch'])\n"
        "print([name for name in ('torch', 'transformers', 'peft', 'accelerate') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    version, imported = result.stdout.splitlines()
    assert version[0].isdigit()
    assert imported == "[]"


def test_diagnosis_marks_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LIBRARIES", ("psutil", "surely-not-installed"))
    assert diagnose().versions == {"psutil": psutil.__version__, "surely-not-installed": None}


@pytest.mark.parametrize(
    ("platform", "files", "limiter"),
    [
        ("linux", {}, "rlimit"),
        ("darwin", {}, "watch"),
        ("linux", {"/sys/fs/cgroup/cgroup.subtree_control": "memory"}, "cgroup-v2"),
    ],
)
def test_limiter_is_the_best_that_the_system_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, files: dict[str, str], limiter: str
) -> None:
    plant(tmp_path, CONTAINER | v2_group("/sys/fs/cgroup") | files)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(machine, "_host_memory", lambda: (GIB, GIB))
    assert diagnose(tmp_path).limiter == limiter


def test_import_is_light() -> None:
    script = (
        "import sys; import lplan.profiles.budget, lplan.profiles.named\n"
        "heavy = ('torch', 'psutil', 'pynvml', 'rich', 'importlib.metadata')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    # An editable install imports a few modules of its own at start.
    bare = script.replace("; import lplan.profiles.budget, lplan.profiles.named", "")
    run = [
        subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
        for text in (script, bare)
    ]
    assert run[0] == run[1]
