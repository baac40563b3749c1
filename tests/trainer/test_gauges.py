"""What surrounds a run, read from made-up machines in the kernel's and the driver's own words."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import A100, T4, FakeNvml

from lplan.profiles.units import MIB
from lplan.trainer.cgroup_limit import ControlGroup
from lplan.trainer.gauges import gpu_gauge, group_gauge, pressure_gauge

# The format of Documentation/accounting/psi.rst.
PSI = (
    "some avg10={some} avg60=0.10 avg300=0.00 total=924723\n"
    "full avg10={full} avg60=0.00 avg300=0.00 total=393513\n"
)


NOBODY = 2**22 + 1
"""No process: Linux gives no such number (proc(5), pid_max)."""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_pressure_is_that_of_the_last_ten_seconds(tmp_path: Path) -> None:
    write(tmp_path / "proc/pressure/memory", PSI.format(some="12.50", full="3.25"))
    assert pressure_gauge(tmp_path)() == {"pressure_some": 12.5, "pressure_full": 3.25}
    assert pressure_gauge(tmp_path / "older kernel")() == {}


def test_a_group_of_version_2_tells_hits_and_pressure_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "proc/pressure/memory", PSI.format(some="1.00", full="1.00"))
    group = tmp_path / "group"
    write(group / "memory.current", "4096\n")
    write(group / "memory.events", "low 0\nhigh 9\nmax 4\noom 0\noom_kill 0\n")
    write(group / "memory.pressure", PSI.format(some="70.00", full="60.00"))
    assert group_gauge(ControlGroup(2, group, 8192), tmp_path)() == {
        "cgroup_bytes": 4096, "limit_hits": 4, "pressure_some": 70.0, "pressure_full": 60.0,
    }  # fmt: skip


def test_a_group_of_version_1_has_the_machines_pressure(tmp_path: Path) -> None:
    write(tmp_path / "proc/pressure/memory", PSI.format(some="1.00", full="0.50"))
    group = tmp_path / "group"
    write(group / "memory.usage_in_bytes", "4096\n")
    write(group / "memory.failcnt", "31\n")
    assert group_gauge(ControlGroup(1, group, 8192), tmp_path)() == {
        "cgroup_bytes": 4096, "limit_hits": 31, "pressure_some": 1.0, "pressure_full": 0.5,
    }  # fmt: skip


def nvml_of(monkeypatch: pytest.MonkeyPatch, *devices: dict[str, Any], visible: str | None = None) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(*devices))
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


def held(devices: tuple[dict[str, Any], ...], later: dict[str, Any]) -> dict[str, Any]:
    """The gauge's reading of processes 7 and 8, after the last device has become `later`."""
    gauge = gpu_gauge(lambda: {7, 8}, alone=True)
    assert gauge is not None
    devices[-1].update(later)
    return {name: size // MIB for name, size in gauge().items()}


def test_processes_of_the_tree_count_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = ({**A100}, {**T4, "mib": (15360, 448, 100)})
    nvml_of(monkeypatch, *devices, visible="1")
    later = {"mib": (15360, 448, 1300), "processes": [(7, 700), (8, 200), (9, 300)]}
    assert held(devices, later) == {"device_used_bytes": 1300, "device_bytes": 900}


@pytest.mark.parametrize(
    "later",
    [
        pytest.param({"processes": [(7, None)]}, id="WSL2 says not available"),
        pytest.param({"processes": [(NOBODY, 900)]}, id="a container has numbers of its own"),
        pytest.param({}, id="not supported"),
    ],
)
def test_without_figures_of_processes_it_is_what_the_device_gained(
    monkeypatch: pytest.MonkeyPatch, later: dict[str, Any]
) -> None:
    devices = ({**T4, "mib": (15360, 448, 100)},)
    nvml_of(monkeypatch, *devices)
    found = held(devices, {"mib": (15360, 448, 1300), **later})
    assert found == {"device_used_bytes": 1300, "device_bytes": 1200}


def test_who_has_not_started_to_use_the_gpu_holds_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = ({**T4, "mib": (15360, 448, 100)},)
    nvml_of(monkeypatch, *devices)
    found = held(devices, {"mib": (15360, 448, 1300), "processes": [(os.getpid(), 1200)]})
    assert found == {"device_used_bytes": 1300, "device_bytes": 0}


def test_an_instance_is_read_and_not_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = {"name": "MIG 1g.5gb", "uuid": "MIG-1", "mib": (4864, 0, 10), "processes": [(8, 64)]}
    nvml_of(monkeypatch, {**A100, "mig": {3: instance}}, visible="MIG-1")
    assert held((instance,), {"mib": (4864, 0, 80)}) == {"device_used_bytes": 80, "device_bytes": 64}


def test_without_driver_or_gpu_there_is_no_gauge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(init_error="Driver Not Loaded"))
    assert gpu_gauge(set, alone=True) is None
    nvml_of(monkeypatch, T4, visible="-1")
    assert gpu_gauge(set, alone=True) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_gauge(set, alone=True) is None


def test_of_somebody_elses_process_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml_of(monkeypatch, {**T4, "mib": (15360, 448, 900)})
    gauge = gpu_gauge(lambda: {7}, alone=False)
    assert gauge is not None
    assert gauge() == {"device_used_bytes": 900 * MIB, "device_bytes": None}
