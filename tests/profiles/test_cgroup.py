"""Trees as Docker, Kubernetes, systemd, and WSL lay them out; and one real group, where one can be made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_linux import plant, v1_group, v2_group

from lplan.profiles.cgroup import cpu_quota, memory_groups, writable_memory_group
from lplan.profiles.units import GIB, MIB

# Linux mm/page_counter: LONG_MAX / PAGE_SIZE pages, in bytes, for pages of 4 and of 64 KiB.
UNLIMITED_4K = (2**63 - 1) // 4096 * 4096
UNLIMITED_64K = (2**63 - 1) // 65536 * 65536

V2_MOUNT = (
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
)
V1_MOUNT = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:17 - cgroup cgroup rw,memory"
OTHER_MOUNTS = "22 1 252:1 / / rw,relatime - ext4 /dev/vda1 rw\n23 22 0:21 / /proc rw - proc proc rw"


def process(cgroup: str, *mounts: str) -> dict[str, object]:
    return {
        "/proc/self/cgroup": cgroup,
        "/proc/self/mountinfo": "\n".join((OTHER_MOUNTS, *mounts)),
    }


def limits(root: Path) -> list[int | None]:
    return [group.limit_bytes for group in memory_groups(root)]


def test_docker_v2_shows_its_own_group_as_the_root_of_its_namespace(tmp_path: Path) -> None:
    stat = (
        f"file {450 * MIB}\ninactive_file {300 * MIB}\nactive_file {150 * MIB}\nslab_reclaimable {50 * MIB}"
    )
    plant(
        tmp_path,
        process("0::/", "1580 1571 0:29 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw")
        | v2_group("/sys/fs/cgroup", limit=2 * GIB, current=800 * MIB, stat=stat),
    )
    (group,) = memory_groups(tmp_path)
    assert group.version == 2
    assert group.limit_bytes == 2 * GIB
    assert group.high_bytes is None
    assert group.limit_source == "/sys/fs/cgroup/memory.max"
    # 800 MiB in use, of which 300 + 150 MiB are page cache and 50 MiB reclaimable slab.
    assert group.held_bytes == 300 * MIB


def test_docker_v1_mounts_its_group_and_not_the_hierarchy(tmp_path: Path) -> None:
    docker = "/docker/4f1c0c6e2d7a"
    mount = f"640 631 0:32 {docker} /sys/fs/cgroup/memory ro,relatime master:17 - cgroup cgroup rw,memory"
    lines = ("cache 0", f"total_inactive_file {64 * MIB}", f"total_active_file {36 * MIB}")
    stat = "\n".join((*lines, f"hierarchical_memory_limit {3 * GIB}"))
    plant(
        tmp_path,
        process(f"11:cpuset:{docker}\n4:memory:{docker}\n0::/", mount)
        | v1_group("/sys/fs/cgroup/memory", limit=3 * GIB, usage=300 * MIB, stat=stat),
    )
    (group,) = memory_groups(tmp_path)
    assert (group.version, group.limit_bytes, group.held_bytes) == (1, 3 * GIB, 200 * MIB)


def test_kubernetes_v1_pod_limit_above_the_mount_is_found(tmp_path: Path) -> None:
    pod = "/kubepods/burstable/pod6a8f7c1e-3a5b/3f2b9d"
    mount = (
        f"703 690 0:34 {pod} /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime - cgroup cgroup rw,memory"
    )
    stat = f"cache 0\nrss {100 * MIB}\nhierarchical_memory_limit {GIB}"
    plant(
        tmp_path,
        process(f"4:memory:{pod}", mount)
        | v1_group("/sys/fs/cgroup/memory", limit=UNLIMITED_4K, usage=100 * MIB, stat=stat),
    )
    own, hidden = memory_groups(tmp_path)
    assert own.limit_bytes is None
    assert hidden.limit_bytes == GIB
    assert hidden.held_bytes == 100 * MIB
    assert hidden.limit_source == "/sys/fs/cgroup/memory/memory.stat hierarchical_memory_limit"


def test_systemd_limit_of_a_parent_slice_counts(tmp_path: Path) -> None:
    user = "/sys/fs/cgroup/user.slice/user-1000.slice"
    plant(
        tmp_path,
        process("0::/user.slice/user-1000.slice/session-3.scope", V2_MOUNT)
        | {"/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory"}
        | v2_group("/sys/fs/cgroup/user.slice", current=6 * GIB)
        | v2_group(user, limit=4 * GIB, high=3 * GIB, current=2 * GIB)
        | v2_group(f"{user}/session-3.scope", current=GIB),
    )
    assert limits(tmp_path) == [None, 4 * GIB, None]
    slice_group = memory_groups(tmp_path)[1]
    assert slice_group.high_bytes == 3 * GIB
    assert slice_group.path == tmp_path / user.lstrip("/")


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files"),
    [
        pytest.param("0::/", (V2_MOUNT,), {"/sys/fs/cgroup/cgroup.procs": "1"}, id="wsl2-systemd"),
        pytest.param(
            "9:memory:/\n0::/",
            (V1_MOUNT, "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"),
            v1_group("/sys/fs/cgroup/memory", limit=UNLIMITED_4K)
            | {"/sys/fs/cgroup/unified/cgroup.controllers": "hugetlb"},
            id="wsl2-hybrid",
        ),
        pytest.param(
            "4:memory:/", (V1_MOUNT,), v1_group("/sys/fs/cgroup/memory", limit=UNLIMITED_64K), id="64k-pages"
        ),
    ],
)
def test_unlimited_machines_have_no_limit(
    tmp_path: Path, cgroup: str, mounts: tuple[str, ...], files: dict[str, object]
) -> None:
    plant(tmp_path, process(cgroup, *mounts) | files)
    assert [limit for limit in limits(tmp_path) if limit is not None] == []


def test_no_proc_means_no_groups(tmp_path: Path) -> None:
    assert memory_groups(tmp_path) == ()
    assert cpu_quota(tmp_path) is None
    assert writable_memory_group(tmp_path) is None


def test_hybrid_reads_the_version_1_hierarchy_to_its_top(tmp_path: Path) -> None:
    base = "/sys/fs/cgroup/memory"
    plant(
        tmp_path,
        process(
            "9:memory:/system.slice/docker.service\n0::/system.slice/docker.service",
            "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
            V1_MOUNT,
        )
        | v1_group(base, limit=UNLIMITED_4K)
        | v1_group(f"{base}/system.slice", limit=5 * GIB)
        | v1_group(f"{base}/system.slice/docker.service", limit=6 * GIB)
        | {"/sys/fs/cgroup/unified/system.slice/docker.service/cgroup.procs": "1"},
    )
    assert limits(tmp_path) == [6 * GIB, 5 * GIB, None]


def test_version_1_ancestor_without_hierarchy_does_not_bound(tmp_path: Path) -> None:
    base = "/sys/fs/cgroup/memory"
    plant(
        tmp_path,
        process("9:memory:/jobs/one", V1_MOUNT)
        | v1_group(f"{base}/jobs/one", limit=6 * GIB)
        | v1_group(f"{base}/jobs", limit=GIB, hierarchy=0),
    )
    assert limits(tmp_path) == [6 * GIB]


@pytest.mark.parametrize(
    ("group", "top"),
    [
        pytest.param("/../../other", "/", id="process-outside-the-namespace"),
        pytest.param("/docker/gone", "/", id="host-path-in-a-namespaced-mount"),
        pytest.param("/somewhere/else", "/docker/abc", id="mount-of-another-group"),
        pytest.param("/", "/../..", id="mount-from-outside-the-namespace"),
    ],
)
def test_group_that_the_mount_does_not_show_is_judged_by_the_mounts_top(
    tmp_path: Path, group: str, top: str
) -> None:
    mount = V2_MOUNT.replace("0:26 / /sys", f"0:26 {top} /sys")
    plant(tmp_path, process(f"0::{group}", mount) | v2_group("/sys/fs/cgroup", limit=GIB))
    assert limits(tmp_path) == [GIB]


def test_mount_that_starts_above_the_namespace_is_followed_by_name(tmp_path: Path) -> None:
    mount = V2_MOUNT.replace("0:26 / /sys", "0:26 /../.. /sys")
    plant(
        tmp_path,
        process("0::/../../pod/box", mount)
        | v2_group("/sys/fs/cgroup/pod", limit=2 * GIB)
        | v2_group("/sys/fs/cgroup/pod/box", limit=3 * GIB),
    )
    assert limits(tmp_path) == [3 * GIB, 2 * GIB]


def test_the_mount_that_shows_most_of_the_ancestry_is_taken(tmp_path: Path) -> None:
    narrow = V2_MOUNT.replace("/ /sys/fs/cgroup", "/a/b /narrow")
    plant(
        tmp_path,
        process("0::/a/b", narrow, V2_MOUNT)
        | v2_group("/narrow", limit=2 * GIB)
        | v2_group("/sys/fs/cgroup/a/b", limit=2 * GIB)
        | v2_group("/sys/fs/cgroup/a", limit=GIB),
    )
    assert limits(tmp_path) == [2 * GIB, GIB]


def test_mount_point_with_a_blank(tmp_path: Path) -> None:
    mount = V2_MOUNT.replace("/sys/fs/cgroup", r"/mnt/control\040groups")
    plant(tmp_path, process("0::/", mount) | v2_group("/mnt/control groups", limit=GIB))
    assert limits(tmp_path) == [GIB]


def test_limit_of_zero_is_a_limit(tmp_path: Path) -> None:
    plant(tmp_path, process("9:memory:/", V1_MOUNT) | v1_group("/sys/fs/cgroup/memory", limit=0))
    assert limits(tmp_path) == [0]


@pytest.mark.parametrize("garbage", ["", "garbage", "1:2", "::::"])
def test_unreadable_proc_files_are_no_groups(tmp_path: Path, garbage: str) -> None:
    plant(tmp_path, {"/proc/self/cgroup": garbage, "/proc/self/mountinfo": garbage})
    assert memory_groups(tmp_path) == ()


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [
        ("max 100000", "max 100000", None),
        ("150000 100000", "max 100000", 1.5),
        ("400000 100000", "100000 50000", 2.0),
        ("nonsense", "0", None),
    ],
)
def test_cpu_quota_v2_is_the_tightest_of_the_ancestry(
    tmp_path: Path, own: str, parent: str, expected: float | None
) -> None:
    files = {"/sys/fs/cgroup/a/b/cpu.max": own, "/sys/fs/cgroup/a/cpu.max": parent}
    plant(tmp_path, process("0::/a/b", V2_MOUNT) | files)
    assert cpu_quota(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [(-1, None), (250000, 2.5)])
def test_cpu_quota_v1_in_a_joint_mount(tmp_path: Path, quota: int, expected: float | None) -> None:
    mount = "33 31 0:30 /docker/x /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct"
    files = {
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": quota,
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": 100000,
    }
    plant(tmp_path, process("3:cpu,cpuacct:/docker/x\n2:cpuset:/docker/x", mount) | files)
    assert cpu_quota(tmp_path) == expected


def test_child_of_the_own_group_in_version_1(tmp_path: Path) -> None:
    base = "/sys/fs/cgroup/memory"
    plant(
        tmp_path,
        process("9:memory:/jobs", V1_MOUNT)
        | v1_group(base, limit=UNLIMITED_4K)
        | v1_group(f"{base}/jobs", limit=UNLIMITED_4K),
    )
    parent = writable_memory_group(tmp_path)
    assert parent is not None
    assert (parent.version, parent.path) == (1, tmp_path / "sys/fs/cgroup/memory/jobs")


def test_sibling_of_the_own_group_in_version_2(tmp_path: Path) -> None:
    base = "/sys/fs/cgroup/user@1000.service"
    plant(
        tmp_path,
        process("0::/user@1000.service/app.slice/term.scope", V2_MOUNT)
        | v2_group(f"{base}/app.slice/term.scope")
        | v2_group(f"{base}/app.slice")
        | {f"{base}/app.slice/cgroup.subtree_control": "memory pids"},
    )
    parent = writable_memory_group(tmp_path)
    assert parent is not None
    assert (parent.version, parent.path) == (2, tmp_path / base.lstrip("/") / "app.slice")


def test_container_v2_whose_only_group_holds_processes_offers_none(tmp_path: Path) -> None:
    plant(tmp_path, process("0::/", V2_MOUNT) | v2_group("/sys/fs/cgroup", limit=GIB))
    assert writable_memory_group(tmp_path) is None


@pytest.mark.parametrize("version", [1, 2])
def test_read_only_group_offers_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    if version == 1:
        files = process("9:memory:/", V1_MOUNT) | v1_group("/sys/fs/cgroup/memory", limit=GIB)
    else:
        files = process("0::/a", V2_MOUNT) | v2_group("/sys/fs/cgroup/a") | v2_group("/sys/fs/cgroup")
        files["/sys/fs/cgroup/cgroup.subtree_control"] = "memory"
    plant(tmp_path, files)
    assert writable_memory_group(tmp_path) is not None
    # Permissions don't stop root, and a read-only mount can't be planted.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert writable_memory_group(tmp_path) is None


def test_a_real_group_is_made_and_its_limit_read_back() -> None:
    parent = writable_memory_group()
    if parent is None:
        pytest.skip("no memory group is writable here")
    child = parent.path / f"lplan-test-{os.getpid()}"
    try:
        child.mkdir()
    except OSError as error:
        pytest.skip(f"the kernel refuses a group: {error}")
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (child / ("memory.limit_in_bytes" if parent.version == 1 else "memory.max")).write_text(
            str(512 * MIB)
        )
        (child / "cgroup.procs").write_text(str(sleeper.pid))
        group = memory_groups(pid=sleeper.pid)[0]
        assert (group.version, group.path, group.limit_bytes) == (parent.version, child, 512 * MIB)
        assert 0 <= group.held_bytes <= group.usage_bytes < 512 * MIB
    finally:
        sleeper.communicate()
        child.rmdir()
