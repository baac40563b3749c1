"""A worker's hold on its GPU, with stand-ins for the driver's library and for PyTorch's caching allocator."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from fake_nvml import T4, FakeNvml

from lplan.profiles.units import MIB
from lplan.trainer.device import HeldDevice, memory_now
from lplan.trainer.job import DeviceBudget

TOTAL = 15360
BUDGET = DeviceBudget(budget_bytes=8000 * MIB, context_bytes=300 * MIB)


@dataclass
class Cuda:
    """The caching allocator's counters, in MiB, and the share of the device that it may take."""

    reserved: int = 0
    most_reserved: int = 0
    share: float = 1.0

    def reserve(self, mib: int) -> None:
        self.reserved = mib
        self.most_reserved = max(self.most_reserved, mib)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def forget() -> None:
            self.most_reserved = self.reserved

        def hold(share: float) -> None:
            assert 0 <= share <= 1, "PyTorch refuses others"
            self.share = share

        for name, stand_in in {
            "max_memory_reserved": lambda: self.most_reserved * MIB,
            "memory_reserved": lambda: self.reserved * MIB,
            "memory_allocated": lambda: self.reserved * MIB // 2,
            "reset_peak_memory_stats": forget,
            "get_device_properties": lambda device: SimpleNamespace(total_memory=TOTAL * MIB),
            "set_per_process_memory_fraction": hold,
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)


@pytest.fixture
def cuda(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    allocator = Cuda()
    allocator.install(monkeypatch)
    return allocator


@pytest.fixture
def driver(monkeypatch):
    """The driver's library, with a GPU whose processes a test may change."""
    gpu = dict(T4)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(gpu))
    return gpu


def test_the_allocator_gets_what_the_planned_context_leaves(cuda, driver):
    HeldDevice(BUDGET)
    assert cuda.share == (8000 - 300) / TOTAL


def test_a_context_that_grows_is_taken_from_the_allocator(cuda, driver):
    held = HeldDevice(BUDGET)
    cuda.reserve(2000)
    cuda.reserve(1500)
    driver["processes"] = [(os.getpid(), 1500 + 450), (1, 4000)]
    assert held.peak_since_last_asked() == (2000 + 450) * MIB
    assert cuda.share == (8000 - 450) / TOTAL


def test_a_peak_is_told_once(cuda, driver):
    held = HeldDevice(BUDGET)
    cuda.reserve(5000)
    cuda.reserve(1000)
    driver["processes"] = [(os.getpid(), 1000 + 300)]
    assert held.peak_since_last_asked() == 5300 * MIB
    assert held.peak_since_last_asked() == 1300 * MIB


@pytest.mark.parametrize("processes", [None, [], [(os.getpid(), None)]])
def test_where_the_driver_does_not_tell_the_plan_stands(cuda, driver, processes):
    """It refuses, as in some containers; it lists nobody, as from other namespaces; it has no number, as on Windows."""
    if processes is not None:
        driver["processes"] = processes
    held = HeldDevice(BUDGET)
    cuda.reserve(2000)
    assert held.peak_since_last_asked() == 2300 * MIB
    assert cuda.share == (8000 - 300) / TOTAL


def test_without_the_drivers_library_the_plan_stands(cuda, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    held = HeldDevice(BUDGET)
    cuda.reserve(2000)
    assert held.peak_since_last_asked() == 2300 * MIB


def test_less_than_what_is_reserved_is_no_context(cuda, driver):
    """Memory was given back between the two readings."""
    held = HeldDevice(BUDGET)
    cuda.reserve(2000)
    driver["processes"] = [(os.getpid(), 1900)]
    assert held.peak_since_last_asked() == 2000 * MIB
    assert cuda.share == 8000 / TOTAL


@pytest.mark.parametrize(("budget", "share"), [(200, 0.0), (20000, 1.0)])
def test_the_share_stays_one_that_pytorch_takes(cuda, driver, budget, share):
    HeldDevice(DeviceBudget(budget_bytes=budget * MIB, context_bytes=300 * MIB))
    assert cuda.share == share


def test_what_is_told_of_a_step(cuda):
    cuda.reserve(2000)
    assert memory_now() == {"allocated_bytes": 1000 * MIB, "reserved_bytes": 2000 * MIB}
