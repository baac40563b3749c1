"""A stand-in for pynvml: the calls that lplan makes, over devices described by dicts."""

# ruff: noqa: N802, N815 (the names are NVML's own)
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from lplan.profiles.units import MIB


class FakeNvml:
    """Each device has a name, uuid, capability, (total, reserved, used) MiB, and maybe MIG slots."""

    NVML_DEVICE_MIG_ENABLE = 1
    nvmlMemory_v2 = 0x2000028

    class NVMLError(Exception):
        pass

    def __init__(
        self, *devices: dict[str, Any], init_error: str | None = None, old_driver: bool = False
    ) -> None:
        self.devices, self.init_error, self.old_driver = devices, init_error, old_driver
        self.open = 0

    def nvmlInit(self) -> None:
        if self.init_error:
            raise self.NVMLError(self.init_error)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.65.06"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.devices[index]

    def nvmlDeviceGetName(self, device: dict[str, Any]) -> str:
        return device["name"]

    def nvmlDeviceGetUUID(self, device: dict[str, Any]) -> str:
        return device["uuid"]

    def nvmlDeviceGetCudaComputeCapability(self, device: dict[str, Any]) -> list[int]:
        if "capability" not in device:
            raise self.NVMLError("GPU is lost")
        return list(device["capability"])

    def nvmlDeviceGetMigMode(self, device: dict[str, Any]) -> list[int]:
        if "mig" not in device:
            raise self.NVMLError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, device: dict[str, Any]) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: dict[str, Any], slot: int) -> dict[str, Any]:
        if slot not in device["mig"]:
            raise self.NVMLError("Not Found")
        return device["mig"][slot]

    def nvmlDeviceGetComputeRunningProcesses(self, device: dict[str, Any]) -> list[SimpleNamespace]:
        """`processes` of the device, as (number, MiB or None); a device without them refuses."""
        if "processes" not in device:
            raise self.NVMLError("Not Supported")
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else mib * MIB)
            for pid, mib in device["processes"]
        ]

    def nvmlDeviceGetMemoryInfo(self, device: dict[str, Any], version: int | None = None) -> SimpleNamespace:
        if version is not None and self.old_driver:
            raise self.NVMLError("Function Not Found")
        total, reserved, used = (size * MIB for size in device["mib"])
        memory = SimpleNamespace(total=total, used=used, free=total - reserved - used)
        if version is not None:
            memory.reserved = reserved
        return memory


T4 = {"name": "Tesla T4", "uuid": "GPU-t4", "capability": (7, 5), "mib": (15360, 448, 0)}
A100 = {"name": "NVIDIA A100-SXM4-40GB", "uuid": "GPU-a100", "capability": (8, 0), "mib": (40960, 512, 1000)}
