"""This machine's NVIDIA GPUs, as the driver's management library (NVML) reports them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .hardware import Gpu

BF16_CAPABILITY = (8, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSearch:
    """The GPUs in PCI bus order, and, where some or all are missing, why.

    CUDA numbers them so too, except that it puts the fastest first where models are mixed.
    """

    gpus: tuple[Gpu, ...]
    reason: str | None


@dataclass(frozen=True, slots=True)
class _Found:
    uuid: str
    gpu: Gpu


def computes_bf16(gpu: Gpu) -> bool:
    """Whether the GPU has bf16 tensor cores: Ampere and later.

    By capability, since `torch.cuda.is_bf16_supported()` also counts emulation and says yes on a T4.
    """
    return gpu.capability >= BF16_CAPABILITY


def find_gpus() -> GpuSearch:
    """The GPUs visible to this process. No driver, no library, no GPU: none, with the reason."""
    if "pynvml" not in sys.modules and not _has_driver():
        return GpuSearch(gpus=(), reason="no NVIDIA driver (NVML Shared Library Not Found)")
    try:
        import pynvml
    except ImportError:
        return GpuSearch(gpus=(), reason="the package nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return GpuSearch(gpus=(), reason=f"no NVIDIA driver ({error})")
    try:
        found = _devices(pynvml)
    except pynvml.NVMLError as error:
        return GpuSearch(gpus=(), reason=f"the NVIDIA driver does not answer ({error})")
    finally:
        pynvml.nvmlShutdown()
    if not found:
        return GpuSearch(gpus=(), reason="the NVIDIA driver reports no GPU")
    return _visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))


def _has_driver() -> bool:
    """Whether the library is there that pynvml loads: where it is not, the package need not be imported, which takes
    longer than all else that is asked of a machine."""
    if sys.platform != "linux":
        return True
    import ctypes

    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def _visible(found: list[_Found], wanted: str | None) -> GpuSearch:
    """CUDA_VISIBLE_DEVICES applied: numbers or UUID prefixes; the first unknown one ends the list."""
    if wanted is None:
        return GpuSearch(gpus=tuple(item.gpu for item in found), reason=None)
    chosen = [found[index].gpu for index in _chosen([item.uuid for item in found], wanted)]
    hidden = len(found) - len(chosen)
    return GpuSearch(
        gpus=tuple(chosen),
        reason=f"CUDA_VISIBLE_DEVICES={wanted} hides {hidden} of {len(found)}" if hidden > 0 else None,
    )


def _chosen(uuids: Sequence[str], wanted: str) -> Iterator[int]:
    for token in (token.strip() for token in wanted.split(",")):
        match = [
            index
            for index, uuid in enumerate(uuids)
            if token == str(index) or (not token.isdigit() and token and uuid.startswith(token))
        ]
        if not match:
            return
        yield match[0]


def first_handle(nvml: Any, wanted: str | None) -> Any:
    """NVML's handle of the first GPU, or MIG instance, that CUDA_VISIBLE_DEVICES `wanted` shows; None without one.

    Raises nvml.NVMLError; the library must have been initialised.
    """
    parts = [part for _, part in _parts(nvml)]
    if wanted is None:
        return parts[0] if parts else None
    uuids = [_text(nvml.nvmlDeviceGetUUID(part)) for part in parts]
    return next((parts[index] for index in _chosen(uuids, wanted)), None)


def _parts(nvml: Any) -> Iterator[tuple[Any, Any]]:
    """Every device with itself, or with each of its instances: with MIG on, CUDA sees those, not the whole."""
    for index in range(nvml.nvmlDeviceGetCount()):
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        for part in _mig_instances(nvml, device) or [device]:
            yield device, part


def _devices(nvml: Any) -> list[_Found]:
    driver = _text(nvml.nvmlSystemGetDriverVersion())
    found = []
    for device, part in _parts(nvml):
        capability = tuple(nvml.nvmlDeviceGetCudaComputeCapability(device))
        memory_bytes, free_bytes = _memory(nvml, part)
        gpu = Gpu(
            name=_text(nvml.nvmlDeviceGetName(part)),
            memory_bytes=memory_bytes,
            free_bytes=free_bytes,
            capability=(int(capability[0]), int(capability[1])),
            driver=driver,
        )
        found.append(_Found(_text(nvml.nvmlDeviceGetUUID(part)), gpu))
    return found


def _memory(nvml: Any, handle: Any) -> tuple[int, int]:
    """(total, free) bytes that processes can have: the driver's and firmware's own part taken out.

    Version 2 of the call names that part "reserved"; CUDA's total is the rest (T4: 15360 - 448 MiB).
    """
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        reserved = int(memory.reserved)
    except (nvml.NVMLError, AttributeError, TypeError):
        memory, reserved = nvml.nvmlDeviceGetMemoryInfo(handle), 0
    return int(memory.total) - reserved, int(memory.free)


def _mig_instances(nvml: Any, handle: Any) -> list[Any]:
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return []
        slots = range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    except nvml.NVMLError:
        return []
    instances = (_mig_instance(nvml, handle, slot) for slot in slots)
    return [instance for instance in instances if instance is not None]


def _mig_instance(nvml: Any, handle: Any, slot: int) -> Any:
    """The instance in a slot; None for an empty one (they need not be filled in order)."""
    try:
        return nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot)
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
