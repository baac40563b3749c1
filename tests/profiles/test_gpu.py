"""GPUs as NVML would report them."""

from __future__ import annotations

import sys

import pytest
from fake_nvml import A100, T4, FakeNvml

from lplan.profiles import gpu
from lplan.profiles.gpu import GpuSearch, computes_bf16, find_gpus
from lplan.profiles.hardware import Gpu
from lplan.profiles.machine import this_machine
from lplan.profiles.units import GIB, MIB


@pytest.fixture(autouse=True)
def no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def install(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml | None) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)


def test_t4_offers_what_torch_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(T4)
    install(monkeypatch, nvml)
    found = find_gpus()
    # torch's total_memory in 67 published runs on T4s: 14912 MiB; NVML's total: 15360.
    expected = Gpu(
        name="Tesla T4",
        memory_bytes=14912 * MIB,
        free_bytes=14912 * MIB,
        capability=(7, 5),
        driver="580.65.06",
    )
    assert found.gpus == (expected,)
    assert found.reason is None
    assert nvml.open == 0


def test_without_a_driver_s_library_its_package_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class NotToBeImported:
        def find_spec(self, name: str, *_: object) -> None:
            assert name != "pynvml"

    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(gpu, "_has_driver", lambda: False)
    monkeypatch.setattr(sys, "meta_path", [NotToBeImported(), *sys.meta_path])
    assert find_gpus() == GpuSearch(gpus=(), reason="no NVIDIA driver (NVML Shared Library Not Found)")


def test_old_driver_without_version_2_gives_its_total(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml(T4, old_driver=True))
    assert find_gpus().gpus[0].memory_bytes == 15360 * MIB


@pytest.mark.parametrize(
    ("nvml", "reason"),
    [
        (None, "the package nvidia-ml-py is not installed"),
        (
            FakeNvml(init_error="NVML Shared Library Not Found"),
            "no NVIDIA driver (NVML Shared Library Not Found)",
        ),
        (FakeNvml(), "the NVIDIA driver reports no GPU"),
        (FakeNvml({"name": "broken"}), "the NVIDIA driver does not answer (GPU is lost)"),
    ],
)
def test_no_gpu_has_a_reason(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml | None, reason: str) -> None:
    install(monkeypatch, nvml)
    found = find_gpus()
    assert (found.gpus, found.reason) == ((), reason)


@pytest.mark.parametrize(
    ("mask", "names", "hidden"),
    [
        ("1", ["NVIDIA A100-SXM4-40GB"], 1),
        ("1,0", ["NVIDIA A100-SXM4-40GB", "Tesla T4"], 0),
        ("GPU-t4", ["Tesla T4"], 1),
        ("0,7,1", ["Tesla T4"], 1),
        ("", [], 2),
        ("-1", [], 2),
    ],
)
def test_cuda_visible_devices_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, mask: str, names: list[str], hidden: int
) -> None:
    install(monkeypatch, FakeNvml(T4, A100))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    found = find_gpus()
    assert [gpu.name for gpu in found.gpus] == names
    assert (found.reason is None) == (hidden == 0)
    assert hidden == 0 or f"hides {hidden} of 2" in (found.reason or "")


def test_mig_instances_stand_for_their_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = {"name": "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "uuid": "MIG-1", "mib": (4864, 0, 12)}
    install(monkeypatch, FakeNvml(A100 | {"mig": {2: instance}}, T4))
    gpus = find_gpus().gpus
    assert [gpu.name for gpu in gpus] == ["NVIDIA A100-SXM4-40GB MIG 1g.5gb", "Tesla T4"]
    assert (gpus[0].capability, gpus[0].memory_bytes) == ((8, 0), 4864 * MIB)


def test_machine_with_a_gpu_trains_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml(T4))
    assert this_machine().device == "cuda"


@pytest.mark.parametrize(
    ("capability", "yes"), [((7, 0), False), ((7, 5), False), ((8, 0), True), ((8, 9), True), ((12, 0), True)]
)
def test_bf16_starts_with_ampere(capability: tuple[int, int], yes: bool) -> None:
    gpu = Gpu(name="any", memory_bytes=GIB, free_bytes=None, capability=capability)
    assert computes_bf16(gpu) is yes
