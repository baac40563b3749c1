"""What `lplan doctor` shows and hands to scripts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lplan.profiles.budget import decide_budget
from lplan.profiles.cgroup import ParentGroup
from lplan.profiles.cpu import Cpu
from lplan.profiles.hardware import Gpu, Hardware, Limit
from lplan.profiles.machine import Diagnosis, diagnose, this_machine
from lplan.profiles.units import GIB, MIB
from lplan.report.machine import doctor_dict, doctor_view

GROUP = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice"
LAPTOP = Hardware(
    name="this-machine",
    device="cpu",
    memory_bytes=8 * GIB,
    reserve_bytes=512 * MIB,
    cores=4,
    cpu_features=("avx2", "avx512f", "avx512_vnni", "avx512_bf16"),
    source="detected",
)
LAPTOP_DIAGNOSIS = Diagnosis(
    cpu=Cpu(model="AMD Ryzen 7 8840U", cores=4, threads=8, quota=4.5, features=LAPTOP.cpu_features),
    system="Linux 6.12.0 on x86_64",
    python="3.12.4",
    limits=(
        Limit(
            name="memory.high",
            limit_bytes=5 * GIB,
            source=f"6.00 GiB less 1.00 GiB in use, {GROUP}/memory.high",
        ),
        Limit(name="free memory", limit_bytes=6 * GIB, source="/proc/meminfo MemAvailable"),
        Limit(name="total memory", limit_bytes=8 * GIB, source="/proc/meminfo MemTotal"),
    ),
    gpu_note="no NVIDIA driver (NVML Shared Library Not Found)",
    parent_group=ParentGroup(version=2, path=Path(GROUP)),
    limiter="cgroup-v2",
    versions={"torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2", "accelerate": "1.15.0"},
)
A100 = Gpu(
    name="NVIDIA A100-SXM4-80GB",
    memory_bytes=80 * GIB,
    free_bytes=60 * GIB,
    capability=(8, 0),
    driver="580.65.06",
)
SERVER = dataclasses.replace(LAPTOP, device="cuda", cpu_features=(), gpus=(A100,))
SERVER_DIAGNOSIS = dataclasses.replace(
    LAPTOP_DIAGNOSIS,
    gpu_note="CUDA_VISIBLE_DEVICES=1 hides 1 of 2",
    parent_group=None,
    limiter="rlimit",
    versions={"torch": None, "transformers": "5.23.0", "peft": None, "accelerate": "1.15.0"},
)
LAPTOP_BUDGET = decide_budget(LAPTOP, limits=LAPTOP_DIAGNOSIS.limits)
SERVER_BUDGET = decide_budget(SERVER)

Render = Callable[..., str]


@pytest.mark.parametrize("width", [80, 120])
def test_laptop(render: Render, golden: Callable[[str, str], None], width: int) -> None:
    golden(
        f"doctor_laptop_{width}", render(doctor_view(LAPTOP, LAPTOP_BUDGET, LAPTOP_DIAGNOSIS), width=width)
    )


@pytest.mark.parametrize("width", [80, 120])
def test_server(render: Render, golden: Callable[[str, str], None], width: int) -> None:
    golden(
        f"doctor_server_{width}", render(doctor_view(SERVER, SERVER_BUDGET, SERVER_DIAGNOSIS), width=width)
    )


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_nothing_is_wider_than_the_terminal_or_lost(render: Render, width: int) -> None:
    text = render(doctor_view(LAPTOP, LAPTOP_BUDGET, LAPTOP_DIAGNOSIS), width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    everything = "".join(text.split())
    expected = [LAPTOP_DIAGNOSIS.cpu.model, "avx512_bf16", "4.5", LAPTOP_BUDGET.reason]
    expected += [
        name for limit in LAPTOP_DIAGNOSIS.limits for name in (limit.name, f"{limit.limit_bytes / GIB:.2f}")
    ]
    expected += [f"{name} {version}" for name, version in LAPTOP_DIAGNOSIS.versions.items()]
    assert [fact for fact in expected if fact.replace(" ", "") not in everything] == []


def test_the_budget_comes_last(render: Render) -> None:
    # The group leaves 5.00 GiB, of which a sixteenth of 8 GiB is kept.
    text = render(doctor_view(LAPTOP, LAPTOP_BUDGET, LAPTOP_DIAGNOSIS), width=120)
    last = text.splitlines()[-1]
    assert last.startswith("budget: 4.50 GiB (memory.high leaves 5.00 GiB")


def test_bar_shares_the_devices_memory(render: Render) -> None:
    text = render(doctor_view(LAPTOP, LAPTOP_BUDGET, LAPTOP_DIAGNOSIS), width=80)
    bar = next(line for line in text.splitlines() if line.startswith("██"))
    # Of 8 GiB: 4.5 for the budget, 0.5 kept, 3 taken or not to be had.
    assert (bar.count("█"), bar.count("▒"), bar.count("·")) == (45, 5, 30)


def test_budget_beyond_the_machine_has_no_bar(render: Render) -> None:
    supposed = decide_budget(LAPTOP, ram_bytes=64 * GIB, limits=LAPTOP_DIAGNOSIS.limits)
    text = render(doctor_view(LAPTOP, supposed, LAPTOP_DIAGNOSIS))
    assert "██" not in text
    assert "budget: 64.00 GiB" in text


def test_supposed_gpu_has_no_bar(render: Render) -> None:
    supposed = decide_budget(LAPTOP, vram_bytes=16 * GIB)
    assert "██" not in render(doctor_view(LAPTOP, supposed, LAPTOP_DIAGNOSIS))


def test_ascii_terminal(render: Render) -> None:
    assert render(doctor_view(LAPTOP, LAPTOP_BUDGET, LAPTOP_DIAGNOSIS), encoding="ascii").isascii()


def test_json_is_complete() -> None:
    data = json.loads(json.dumps(doctor_dict(SERVER, SERVER_BUDGET, SERVER_DIAGNOSIS)))
    assert data["schema"] == "lplan.doctor/1"
    assert data["hardware"]["gpus"] == [
        {
            "name": "NVIDIA A100-SXM4-80GB",
            "memory_bytes": 80 * GIB,
            "free_bytes": 60 * GIB,
            "capability": [8, 0],
            "computes_bf16": True,
            "driver": "580.65.06",
        }
    ]
    assert data["budget"]["budget_bytes"] == 60 * GIB
    assert data["budget"]["device"] == "cuda"
    assert data["enforcement"] == {"limiter": "rlimit", "parent_group": None}
    assert data["versions"]["torch"] is None
    assert [limit["name"] for limit in data["limits"]] == [
        "memory.high",
        "free memory",
        "total memory",
    ]


def test_json_names_the_parent_group() -> None:
    data = doctor_dict(LAPTOP, LAPTOP_BUDGET, LAPTOP_DIAGNOSIS)
    assert data["enforcement"] == {"limiter": "cgroup-v2", "parent_group": GROUP}


def test_this_machine_can_be_shown(render: Render) -> None:
    hardware, diagnosis = this_machine(), diagnose()
    budget = decide_budget(hardware)
    assert render(doctor_view(hardware, budget, diagnosis)).rstrip().endswith(")")
    assert json.dumps(doctor_dict(hardware, budget, diagnosis))
