"""Which limit decides, what is kept back, and how the reason says so."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lplan.profiles import budget as budget_module
from lplan.profiles.budget import decide_budget, require_gpu
from lplan.profiles.errors import UsageError
from lplan.profiles.gpu import GpuSearch
from lplan.profiles.hardware import Gpu, Hardware, Limit
from lplan.profiles.machine import FREE_MEMORY, THIS_MACHINE, TOTAL_MEMORY
from lplan.profiles.units import GIB, MIB

GPU = Gpu(name="Tesla T4", memory_bytes=14912 * MIB, free_bytes=None, capability=(7, 5))
BUSY_GPU = dataclasses.replace(GPU, free_bytes=10 * GIB)

HERE = Hardware(
    name=THIS_MACHINE, device="cpu", memory_bytes=24 * GIB, reserve_bytes=GIB, cores=2, source="detected"
)
NAMED = dataclasses.replace(HERE, name="cpu-8gb", memory_bytes=8 * GIB, source="a test")
NAMED_GPU = dataclasses.replace(NAMED, name="t4", device="cuda", gpus=(GPU,))
HERE_WITH_GPU = dataclasses.replace(HERE, device="cuda", gpus=(BUSY_GPU,))


def limit(name: str, size_bytes: int) -> Limit:
    return Limit(name=name, limit_bytes=size_bytes, source="a test")


FREE = (limit(FREE_MEMORY, 20 * GIB), limit(TOTAL_MEMORY, 24 * GIB))
CONTAINER = (limit("control group", 3 * GIB), *FREE)
CROWDED = (limit(FREE_MEMORY, 2 * GIB), limit(TOTAL_MEMORY, 24 * GIB))


@pytest.mark.parametrize(
    ("hardware", "ram_gib", "limits", "for_run", "budget_gib", "reserve_gib", "decides"),
    [
        pytest.param(HERE, None, FREE, False, 19, 1, FREE_MEMORY, id="free-memory-less-reserve"),
        pytest.param(HERE, None, CONTAINER, False, 2, 1, "control group", id="container-less-reserve"),
        pytest.param(HERE, None, CONTAINER, True, 2, 1, "control group", id="container-run"),
        pytest.param(HERE, 8, FREE, False, 8, 0, "--ram", id="users-word-is-all-of-it"),
        pytest.param(HERE, 8, CONTAINER, False, 8, 0, "--ram", id="users-word-wins-in-an-estimate"),
        pytest.param(HERE, 8, CONTAINER, True, 3, 0, "control group", id="hard-limit-wins-in-a-run"),
        pytest.param(HERE, 8, CROWDED, True, 8, 0, "--ram", id="busy-memory-does-not-overrule-the-user"),
        pytest.param(HERE, 64, FREE, True, 24, 0, TOTAL_MEMORY, id="no-more-than-there-is"),
        pytest.param(NAMED, None, CONTAINER, False, 7, 1, "cpu-8gb", id="named-less-reserve"),
        pytest.param(NAMED, None, CONTAINER, True, 3, 0, "control group", id="named-run-in-less"),
        pytest.param(NAMED, 4, FREE, False, 4, 0, "--ram", id="both-and-ram-is-tighter"),
        pytest.param(NAMED, 16, FREE, False, 7, 1, "cpu-8gb", id="both-and-the-machine-is-tighter"),
        pytest.param(NAMED, 7.5, FREE, False, 7, 1, "cpu-8gb", id="both-compared-after-the-reserve"),
    ],
)
def test_host_budget(
    hardware: Hardware,
    ram_gib: float | None,
    limits: tuple[Limit, ...],
    for_run: bool,
    budget_gib: float,
    reserve_gib: int,
    decides: str,
) -> None:
    ram_bytes = None if ram_gib is None else int(ram_gib * GIB)
    budget = decide_budget(hardware, ram_bytes=ram_bytes, limits=limits, for_run=for_run)
    assert budget.device == "cpu"
    assert budget.budget_bytes == budget_gib * GIB
    assert budget.reserve_bytes == reserve_gib * GIB
    assert budget.limits[0].name == decides
    assert budget.reason.startswith(decides)


@pytest.mark.parametrize(
    ("hardware", "ram_gib", "limits", "reason"),
    [
        (HERE, None, FREE, "free memory leaves 20.00 GiB, of which the system keeps 1.00 GiB"),
        (NAMED, None, (), "cpu-8gb has 8.00 GiB, of which its system keeps 1.00 GiB"),
        (HERE, 8, FREE, "--ram gives the run all of 8.00 GiB"),
        (HERE, 8, CONTAINER, "--ram gives the run all of 8.00 GiB; but control group leaves 3.00 GiB here"),
        (NAMED, 4, (), "--ram gives the run all of 4.00 GiB, less than cpu-8gb (7.00 GiB)"),
        (
            NAMED,
            16,
            (),
            "cpu-8gb has 8.00 GiB, of which its system keeps 1.00 GiB, less than --ram (16.00 GiB)",
        ),
    ],
)
def test_reason_says_what_decides_what_is_kept_and_what_was_asked(
    hardware: Hardware, ram_gib: int | None, limits: tuple[Limit, ...], reason: str
) -> None:
    ram_bytes = None if ram_gib is None else ram_gib * GIB
    assert decide_budget(hardware, ram_bytes=ram_bytes, limits=limits).reason == reason


def test_machine_without_free_memory_has_a_budget_of_nothing() -> None:
    exhausted = (limit(FREE_MEMORY, GIB // 2), limit(TOTAL_MEMORY, 24 * GIB))
    assert decide_budget(HERE, limits=exhausted).budget_bytes == 0


def test_limits_of_this_machine_are_read_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "memory_limits", lambda: CONTAINER)
    assert decide_budget(HERE).budget_bytes == 2 * GIB
    assert decide_budget(NAMED, for_run=True).budget_bytes == 3 * GIB


def test_named_estimate_does_not_look_at_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "memory_limits", lambda: pytest.fail("read"))
    monkeypatch.setattr(budget_module, "find_gpus", lambda: pytest.fail("read"))
    assert decide_budget(NAMED).budget_bytes == 7 * GIB
    assert decide_budget(NAMED_GPU).budget_bytes == 14912 * MIB


@pytest.mark.parametrize(
    ("hardware", "vram_gib", "for_run", "budget_bytes", "decides"),
    [
        pytest.param(NAMED_GPU, None, False, 14912 * MIB, "Tesla T4", id="named"),
        pytest.param(NAMED_GPU, 8, False, 8 * GIB, "--vram", id="named-and-vram"),
        pytest.param(NAMED_GPU, 40, False, 14912 * MIB, "Tesla T4", id="named-has-less"),
        pytest.param(HERE_WITH_GPU, None, False, 10 * GIB, "Tesla T4", id="what-is-free-here"),
        pytest.param(HERE_WITH_GPU, 12, False, 12 * GIB, "--vram", id="users-word-wins-in-an-estimate"),
        pytest.param(HERE_WITH_GPU, 12, True, 10 * GIB, "Tesla T4", id="free-memory-wins-in-a-run"),
        pytest.param(HERE, 12, False, 12 * GIB, "--vram", id="supposed-gpu"),
    ],
)
def test_gpu_budget(
    hardware: Hardware, vram_gib: int | None, for_run: bool, budget_bytes: int, decides: str
) -> None:
    vram_bytes = None if vram_gib is None else vram_gib * GIB
    budget = decide_budget(hardware, vram_bytes=vram_bytes, for_run=for_run)
    assert (budget.device, budget.budget_bytes, budget.reserve_bytes) == ("cuda", budget_bytes, 0)
    assert budget.limits[0].name == decides
    assert budget.reason.startswith(decides)


def test_estimate_mentions_that_less_gpu_memory_is_free() -> None:
    reason = decide_budget(HERE_WITH_GPU, vram_bytes=12 * GIB).reason
    assert reason == "--vram gives the run all of 12.00 GiB; but Tesla T4 leaves 10.00 GiB here"


def test_run_of_a_named_gpu_needs_one_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "find_gpus", lambda: GpuSearch(gpus=(BUSY_GPU,), reason=None))
    assert decide_budget(NAMED_GPU, for_run=True).budget_bytes == 10 * GIB
    monkeypatch.setattr(budget_module, "find_gpus", lambda: GpuSearch(gpus=(), reason="none"))
    with pytest.raises(UsageError, match="no GPU here"):
        decide_budget(NAMED_GPU, for_run=True)


def test_ram_on_a_machine_with_a_gpu_trains_on_its_cpu() -> None:
    budget = decide_budget(HERE_WITH_GPU, ram_bytes=8 * GIB, limits=FREE)
    assert (budget.device, budget.budget_bytes) == ("cpu", 8 * GIB)


@pytest.mark.parametrize(
    ("hardware", "sizes", "message"),
    [
        (HERE, {"ram_bytes": 0}, "--ram must be at least one byte"),
        (HERE, {"ram_bytes": -GIB}, "--ram must be at least one byte"),
        (HERE, {"vram_bytes": 0}, "--vram must be at least one byte"),
        (HERE, {"ram_bytes": GIB, "vram_bytes": GIB}, "exclude each other"),
        (NAMED_GPU, {"ram_bytes": GIB}, "t4 trains on its GPU"),
        (NAMED, {"vram_bytes": GIB}, "cpu-8gb has no GPU for --vram"),
        (HERE, {"vram_bytes": GIB, "for_run": True}, "no GPU here for --vram"),
    ],
)
def test_impossible_requests_are_wrong_usage(hardware: Hardware, sizes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        decide_budget(hardware, limits=FREE, **sizes)
    assert caught.value.hint


def test_the_first_gpu_is_the_one_that_runs() -> None:
    assert require_gpu((BUSY_GPU, GPU)) is BUSY_GPU


sizes = st.integers(1, 2**45)
all_limits = st.lists(sizes, min_size=1, max_size=5).map(
    lambda found: tuple(limit(f"limit {number}", size) for number, size in enumerate(found))
)


@given(ram_bytes=sizes, limits=all_limits, named=st.booleans())
def test_a_run_never_gets_more_than_any_limit(ram_bytes: int, limits: tuple[Limit, ...], named: bool) -> None:
    hardware = NAMED if named else HERE
    budget = decide_budget(hardware, ram_bytes=ram_bytes, limits=limits, for_run=True)
    assert budget.budget_bytes <= min(ram_bytes, *(found.limit_bytes for found in limits), 2**45)
    assert budget.budget_bytes == max(0, budget.limits[0].limit_bytes - budget.reserve_bytes)


@given(limits=all_limits)
def test_detected_budget_and_reserve_stay_within_the_tightest_limit(limits: tuple[Limit, ...]) -> None:
    budget = decide_budget(HERE, limits=limits)
    tightest = min(found.limit_bytes for found in limits)
    assert budget.budget_bytes == max(0, tightest - HERE.reserve_bytes)
    assert list(budget.limits) == sorted(budget.limits, key=lambda found: max(0, found.limit_bytes - GIB))
