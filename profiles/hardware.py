"""What a machine is, and how many of its bytes a run may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One CUDA device. `memory_bytes` is what the driver reports as total, not what the box says."""

    name: str
    memory_bytes: int
    free_bytes: int | None
    capability: tuple[int, int]
    multiprocessors: int | None = None
    half_flop_per_s: float | None = None
    """Dense 16-bit products with fp32 accumulation, as the maker states it."""
    float_flop_per_s: float | None = None
    """fp32 without TF32."""
    bandwidth_bytes_per_s: float | None = None
    driver: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """A machine: named (data with a source) or detected.

    `memory_bytes` is host memory as the operating system or the container reports it;
    `reserve_bytes` is what its system keeps for itself.
    """

    name: str
    device: Device
    memory_bytes: int
    reserve_bytes: int
    cores: int
    """Usable cores: physical cores that affinity and quota leave."""
    cpu_features: tuple[str, ...] = ()
    """Of those that matter to training: avx2, avx512f, avx512_bf16, amx_bf16, ..."""
    gpus: tuple[Gpu, ...] = ()
    source: str
    checked: str | None = None

    @property
    def computes_bf16(self) -> bool:
        """Whether this machine's CPU has bf16 matrix instructions (avx512_bf16 or amx_bf16)."""
        return any(f in self.cpu_features for f in ("avx512_bf16", "amx_bf16"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """One thing that bounds memory, with how many bytes it leaves and where it was read."""

    name: str
    """Such as "control group", "free memory", "RLIMIT_AS", "--ram"."""
    limit_bytes: int
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How many bytes the run's process tree may use on its device, and why.

    `limits` are all that were considered, tightest first; `reserve_bytes` was already subtracted
    from `budget_bytes` (zero when the user named the size).
    """

    device: Device
    budget_bytes: int
    reserve_bytes: int
    limits: tuple[Limit, ...]
    reason: str
    """One sentence: which limit decides and what was kept back."""
