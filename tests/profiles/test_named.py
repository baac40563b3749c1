"""The catalogue of machines: complete rows, and the figures that others published."""

from __future__ import annotations

import datetime
import sys
from typing import Any

import pytest

from lplan.profiles.errors import UsageError
from lplan.profiles.hardware import Gpu
from lplan.profiles.named import CATALOGUE, find_hardware, named_hardware, with_datasheet
from lplan.profiles.units import GIB, MIB

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROWS: dict[str, dict[str, Any]] = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ROWS)
def test_every_row_says_where_it_comes_from(name: str) -> None:
    row = ROWS[name]
    assert len(row["source"]) > 20
    assert len(row["reserve_source"]) > 10
    assert isinstance(row["checked"], datetime.date)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_a_machine(name: str) -> None:
    machine = named_hardware()[name]
    assert machine.name == name == name.lower()
    assert 0 < machine.reserve_bytes < machine.memory_bytes // 2
    assert machine.cores >= 1
    assert machine.checked == ROWS[name]["checked"].isoformat()
    assert machine.device == ("cuda" if machine.gpus else "cpu")


@pytest.mark.parametrize(
    ("name", "installed_bytes"),
    [
        ("cpu-8gb", 8 * GIB),
        ("cpu-16gb", 16 * GIB),
        ("cpu-32gb", 32 * GIB),
        ("codespaces-2core", 8 * GIB),  # docs.github.com/en/codespaces/overview
        ("codespaces-4core", 16 * GIB),
        ("colab-cpu", 13 * GIB),  # n1-highmem-2
        ("t4", 13 * GIB),
        ("colab-t4", 13 * GIB),
        ("a10g", 16 * GIB),  # g5.xlarge
        ("a100-40gb", 85 * GIB),  # a2-highgpu-1g
        ("rtx-4090", 32 * GIB),
    ],
)
def test_host_memory_is_a_little_less_than_installed(name: str, installed_bytes: int) -> None:
    share = find_hardware(name).memory_bytes / installed_bytes
    assert 0.96 <= share < 0.98


def test_t4_is_what_torch_reports() -> None:
    machine = find_hardware("t4")
    (gpu,) = machine.gpus
    assert machine.device == "cuda"
    assert gpu.capability == (7, 5)
    assert gpu.multiprocessors == 40
    assert gpu.memory_bytes == 14912 * MIB
    # CUDA's own messages: "GPU 0 has a total capacity of 14.56 GiB".
    assert round(gpu.memory_bytes / GIB, 2) == 14.56


# What the box says, in GiB, and the compute capability (developer.nvidia.com/cuda-gpus; gfx942 for AMD's).
GPUS: dict[str, tuple[float, tuple[int, int]]] = {
    "Tesla T4": (16, (7, 5)),
    "Tesla P100-PCIE-16GB": (16, (6, 0)),
    "Tesla V100-SXM2-16GB": (16, (7, 0)),
    "Tesla V100-SXM2-32GB": (32, (7, 0)),
    "NVIDIA L4": (24, (8, 9)),
    "NVIDIA A10G": (24, (8, 6)),
    "NVIDIA A100-SXM4-40GB": (40, (8, 0)),
    "NVIDIA A100-SXM4-80GB": (80, (8, 0)),
    "NVIDIA L40S": (48, (8, 9)),
    "NVIDIA H100 80GB HBM3": (80, (9, 0)),
    "NVIDIA H200": (141, (9, 0)),
    "NVIDIA B200": (180, (10, 0)),
    "NVIDIA GeForce RTX 3060": (12, (8, 6)),
    "NVIDIA GeForce RTX 3090": (24, (8, 6)),
    "NVIDIA GeForce RTX 4060 Ti": (16, (8, 9)),
    "NVIDIA GeForce RTX 4070": (12, (8, 9)),
    "NVIDIA GeForce RTX 4080": (16, (8, 9)),
    "NVIDIA GeForce RTX 4090": (24, (8, 9)),
    "NVIDIA GeForce RTX 5090": (32, (12, 0)),
    "NVIDIA RTX A6000": (48, (8, 6)),
    "AMD Instinct MI300X": (192, (9, 4)),
}
WITH_GPUS = [name for name, row in ROWS.items() if "gpus" in row]


@pytest.mark.parametrize("name", WITH_GPUS)
def test_every_gpu_is_one_that_is_sold(name: str) -> None:
    for row, gpu in zip(ROWS[name]["gpus"], named_hardware()[name].gpus, strict=True):
        assert row.keys() == {
            "name", "memory_bytes", "capability", "multiprocessors",
            "half_flop_per_s", "float_flop_per_s", "bandwidth_bytes_per_s",
        }  # fmt: skip
        assert 1e12 < gpu.float_flop_per_s < gpu.half_flop_per_s < 1e16
        assert 2e11 < gpu.bandwidth_bytes_per_s < 1e13
        box_gib, capability = GPUS[gpu.name]
        assert 0.9 < gpu.memory_bytes / (box_gib * GIB) < 1
        assert gpu.capability == capability
        assert isinstance(gpu.multiprocessors, int)
        assert 20 <= gpu.multiprocessors <= 304


def test_every_known_gpu_has_a_machine() -> None:
    assert {gpu.name for name in WITH_GPUS for gpu in named_hardware()[name].gpus} == GPUS.keys()


def test_one_gpu_is_the_same_in_every_machine() -> None:
    (t4,) = find_hardware("t4").gpus
    assert find_hardware("colab-t4").gpus == (t4,)
    assert find_hardware("kaggle-2xt4").gpus == (t4, t4)


def test_no_named_cpu_claims_bf16() -> None:
    assert [name for name, machine in named_hardware().items() if machine.computes_bf16] == []


def test_names_are_found_in_any_case() -> None:
    assert find_hardware(" T4 ") is named_hardware()["t4"]


@pytest.mark.parametrize(
    ("asked", "offered"),
    [("cpu-8g", "cpu-8gb"), ("codespace-2core", "codespaces-2core"), ("t5", "t4")],
)
def test_unknown_name_offers_the_nearest(asked: str, offered: str) -> None:
    with pytest.raises(UsageError, match=f"no machine is called '{asked}'") as caught:
        find_hardware(asked)
    assert offered in (caught.value.hint or "")


def test_name_like_no_other_offers_all() -> None:
    with pytest.raises(UsageError) as caught:
        find_hardware("xyzzy")
    assert all(name in (caught.value.hint or "") for name in ROWS)


@pytest.mark.parametrize(
    ("name", "gib", "sheet"),
    [
        ("Tesla T4", 14.5, "t4"),
        ("NVIDIA A100-PCIE-40GB", 39.5, "a100-40gb"),
        ("NVIDIA A100 80GB PCIe", 79.1, "a100-80gb"),
        ("NVIDIA GeForce RTX 4090", 23.6, "rtx-4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 15.6, None),
        ("NVIDIA L40", 44.4, None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4.8, None),
    ],
)
def test_a_detected_gpu_gets_its_makers_figures(name: str, gib: float, sheet: str | None) -> None:
    seen = Gpu(name=name, memory_bytes=int(gib * GIB), free_bytes=None, capability=(8, 0))
    known = with_datasheet(seen)
    if sheet is None:
        assert known == seen
        return
    (row,) = named_hardware()[sheet].gpus
    assert known.bandwidth_bytes_per_s == row.bandwidth_bytes_per_s
    assert known.half_flop_per_s == row.half_flop_per_s
    assert (known.name, known.memory_bytes) == (name, seen.memory_bytes)
