"""How many bytes a run may use: the tightest of the user's word, the machine's memory and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .errors import UsageError
from .gpu import find_gpus
from .hardware import Budget, Device, Gpu, Hardware, Limit
from .machine import FREE_MEMORY, THIS_MACHINE, memory_limits
from .units import format_size


@dataclass(frozen=True, slots=True)
class _Bound:
    """A limit that may decide, what the system keeps of it, and how the reason words it."""

    limit: Limit
    kept_bytes: int
    reason: str
    asked: bool = False
    """Whether the user named it, as a size or as a machine."""

    @property
    def left_bytes(self) -> int:
        return max(0, self.limit.limit_bytes - self.kept_bytes)


def decide_budget(
    hardware: Hardware,
    *,
    ram_bytes: int | None = None,
    vram_bytes: int | None = None,
    for_run: bool = False,
    limits: Sequence[Limit] | None = None,
) -> Budget:
    """The budget of a run on `hardware` (named, or `this_machine()`).

    - Without sizes: a named machine's memory, or what is available here now (not the total: other programs
      hold the difference), less the machine's reserve. It may come to zero; then nothing fits.
    - `ram_bytes`, `vram_bytes` (--ram, --vram): that size, all of it. A named machine that has less decides
      instead; so does this machine's hard limit if the run will happen here (`for_run`). An estimate
      only mentions it. Memory that is merely not free now never overrules the user.
    - `limits` stands for `memory_limits()`, which is read when it is needed.

    Raises UsageError for sizes below one byte, for both sizes at once, for --ram with a named machine that
    trains on its GPU, and for --vram without a GPU (an estimate on this machine may suppose one).
    """
    _check_sizes(hardware, ram_bytes, vram_bytes)
    if vram_bytes is not None or (hardware.device == "cuda" and ram_bytes is None):
        return _gpu_budget(hardware, vram_bytes, for_run)
    detected = hardware.name == THIS_MACHINE
    here = limits if limits is not None else memory_limits() if detected or for_run else ()
    return _host_budget(hardware, ram_bytes, for_run, here)


def kept_free(budget: Budget, safety: float | None) -> Budget:
    """The budget less what the user wants kept free: a share of it (a float below 1) or bytes (an int)."""
    if not safety:
        return budget
    free = safety if isinstance(safety, int) else int(budget.budget_bytes * safety)
    return replace(
        budget,
        budget_bytes=max(0, budget.budget_bytes - free),
        reason=f"{budget.reason}; --safety keeps {format_size(free)} of it free",
    )


def require_gpu(gpus: Sequence[Gpu], asked: str = "--vram") -> Gpu:
    """The GPU that a run here would use, the first. Raises UsageError, naming what asked for it, if there is none."""
    if not gpus:
        raise UsageError(
            f"no GPU here for {asked}",
            hint="use --ram SIZE to train on the CPU; `lplan doctor` says why none is found",
        )
    return gpus[0]


def _check_sizes(hardware: Hardware, ram_bytes: int | None, vram_bytes: int | None) -> None:
    for flag, size in (("--ram", ram_bytes), ("--vram", vram_bytes)):
        if size is not None and size < 1:
            raise UsageError(f"{flag} must be at least one byte", hint=f"write {flag} 8G or {flag} 512M")
    if ram_bytes is not None and vram_bytes is not None:
        raise UsageError(
            "--ram and --vram exclude each other", hint="--ram trains on the CPU, --vram on a GPU"
        )
    if hardware.name == THIS_MACHINE:
        return
    if ram_bytes is not None and hardware.device == "cuda":
        raise UsageError(
            f"{hardware.name} trains on its GPU, which --ram does not bound", hint="use --vram SIZE"
        )
    if vram_bytes is not None and not hardware.gpus:
        raise UsageError(f"{hardware.name} has no GPU for --vram", hint="use --ram SIZE, or --hardware t4")


def _host_budget(hardware: Hardware, ram_bytes: int | None, for_run: bool, here: Sequence[Limit]) -> Budget:
    if hardware.name == THIS_MACHINE and ram_bytes is None:
        return _decide("cpu", [_detected(limit, hardware.reserve_bytes) for limit in here], here)
    bounds = [] if ram_bytes is None else [_users_word("--ram", ram_bytes)]
    if hardware.name != THIS_MACHINE:
        bounds.append(_named(hardware))
    if for_run:
        bounds += [_enforced(limit) for limit in here if limit.name != FREE_MEMORY]
    return _decide("cpu", bounds, here)


def _gpu_budget(hardware: Hardware, vram_bytes: int | None, for_run: bool) -> Budget:
    detected = hardware.name == THIS_MACHINE
    bounds = [] if vram_bytes is None else [_users_word("--vram", vram_bytes)]
    if not detected:
        bounds.append(_gpu(hardware.gpus[0]))
    here = [_gpu(gpu) for gpu in hardware.gpus[:1]] if detected else []
    if for_run:
        asked = "--vram" if vram_bytes is not None else f"--hardware {hardware.name}"
        here = [_gpu(require_gpu(hardware.gpus if detected else find_gpus().gpus, asked))]
    if for_run or vram_bytes is None:
        bounds += here
    return _decide("cuda", bounds, [bound.limit for bound in here])


def _decide(device: Device, bounds: Sequence[_Bound], here: Sequence[Limit]) -> Budget:
    """The tightest bound decides. Named are what was asked for beside it, and what is free here but less."""
    ranked = sorted(bounds, key=lambda bound: bound.left_bytes)
    first = ranked[0]
    asked = [f"{bound.limit.name} ({format_size(bound.left_bytes)})" for bound in ranked[1:] if bound.asked]
    reason = first.reason + (f", less than {' and '.join(asked)}" if asked else "")
    tightest = min(here, key=lambda limit: limit.limit_bytes, default=first.limit)
    if tightest.limit_bytes < first.left_bytes:
        reason += f"; but {_leaves(tightest)} here"
    return Budget(
        device=device,
        budget_bytes=first.left_bytes,
        reserve_bytes=first.kept_bytes,
        limits=tuple(bound.limit for bound in ranked),
        reason=reason,
    )


def _users_word(flag: str, size_bytes: int) -> _Bound:
    limit = Limit(name=flag, limit_bytes=size_bytes, source="command line")
    return _Bound(limit, 0, f"{flag} gives the run all of {format_size(size_bytes)}", asked=True)


def _named(hardware: Hardware) -> _Bound:
    limit = Limit(name=hardware.name, limit_bytes=hardware.memory_bytes, source=hardware.source)
    total, kept = format_size(hardware.memory_bytes), format_size(hardware.reserve_bytes)
    reason = f"{hardware.name} has {total}, of which its system keeps {kept}"
    return _Bound(limit, hardware.reserve_bytes, reason, asked=True)


def _detected(limit: Limit, reserve_bytes: int) -> _Bound:
    reason = f"{_leaves(limit)}, of which the system keeps {format_size(reserve_bytes)}"
    return _Bound(limit, reserve_bytes, reason)


def _enforced(limit: Limit) -> _Bound:
    return _Bound(limit, 0, f"{_leaves(limit)} here")


def _gpu(gpu: Gpu) -> _Bound:
    total = format_size(gpu.memory_bytes)
    if gpu.free_bytes is None:
        limit = Limit(name=gpu.name, limit_bytes=gpu.memory_bytes, source="the driver's total")
        return _Bound(limit, 0, f"{gpu.name} has {total} beside the driver's own part", asked=True)
    limit = Limit(name=gpu.name, limit_bytes=gpu.free_bytes, source=f"free now of {total}, by NVML")
    return _Bound(limit, 0, _leaves(limit))


def _leaves(limit: Limit) -> str:
    return f"{limit.name} leaves {format_size(limit.limit_bytes)}"
