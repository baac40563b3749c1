"""What is wanted and where: request, machine, budget, what the libraries take of it, how fast it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..profiles.budget import decide_budget
from ..profiles.errors import DoesNotFitError
from ..profiles.find import find_model
from ..profiles.hardware import Budget, Hardware
from ..profiles.machine import THIS_MACHINE, this_machine
from ..profiles.named import find_hardware
from ..profiles.units import format_size
from .calibration import in_force
from .cuda import gpu_rates
from .estimating import Situation
from .kernels import on_gpu
from .packages import require_packages
from .rates import Rates, measured_rates
from .recipe import Allocator
from .request import Request, make_request
from .runtime import Baseline
from .selectors import require_tokens
from .stored_quantization import as_stored
from .tracer import baseline
from .versions import stack_versions

_SUPPOSED_GPU = "t4"
BF16_WITHOUT_INSTRUCTIONS: Mapping[int, float] = {512: 0.027, 2048: 0.008}
"""bf16 matrix products against fp32 ones, by width, on a CPU with AVX2 alone: torch 2.13 has no kernels for them there
(an EPYC, forward 10 GFLOP/s a core for 80 in fp32, the input's gradient 1.4 and 0.3)."""


def understand(
    model: str,
    asked: Mapping[str, Any],
    *,
    usual: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    for_run: bool = False,
) -> tuple[Request, Situation]:
    """What is wanted, and where it would happen: everything that can be refused without work, cheapest first.

    `asked` holds `hardware`, `ram` and `vram` (bytes) beside the knobs, `usual` a task's defaults.
    Raises UsageError, LplanError or DoesNotFitError.
    """
    hardware, budget = choose_machine(
        asked["hardware"], ram_bytes=asked["ram"], vram_bytes=asked["vram"], for_run=for_run
    )
    request = make_request(asked, hardware, usual, device=budget.device)
    libraries = baseline()
    if budget.device == "cpu":
        _require_room(budget, libraries)
    profile = find_model(model, trust_remote_code=trust_remote_code)
    require_tokens(request.recipe, profile.config)
    request = as_stored(request, profile)
    if budget.device == "cuda":
        request = replace(request, recipe=on_gpu(request.recipe, hardware.gpus[0], profile.config))
    if for_run:
        require_packages(request.recipe)
    situation = Situation(
        model=profile,
        hardware=hardware,
        budget=budget,
        baseline=libraries,
        versions=stack_versions(),
        offsets=_learned(hardware),
    )
    return request, situation


def _learned(hardware: Hardware) -> Mapping[str, int]:
    """What runs on this machine have taught about it; nothing about another."""
    calibration = in_force() if hardware.name == THIS_MACHINE else None
    return calibration.offsets if calibration is not None else {}


def choose_machine(
    name: str | None, *, ram_bytes: int | None, vram_bytes: int | None, for_run: bool = False
) -> tuple[Hardware, Budget]:
    """The named machine or this one, and the budget of a run on it.

    --ram without a name means the CPU. A size by --vram on a machine without a GPU supposes one that computes as a T4
    does. Raises UsageError for names and sizes that cannot be.
    """
    hardware = find_hardware(name) if name else this_machine()
    if name is None and ram_bytes is not None:
        hardware = replace(hardware, device="cpu")
    budget = decide_budget(hardware, ram_bytes=ram_bytes, vram_bytes=vram_bytes, for_run=for_run)
    if budget.device == "cuda" and not hardware.gpus:
        (like,) = find_hardware(_SUPPOSED_GPU).gpus
        hardware = replace(hardware, gpus=(replace(like, name=f"a GPU like a {like.name}, supposed"),))
    return hardware, budget


def _require_room(budget: Budget, libraries: Baseline) -> None:
    needed_bytes = libraries.anonymous_bytes + libraries.file_bytes
    if budget.budget_bytes < needed_bytes:
        raise DoesNotFitError(
            f"{format_size(budget.budget_bytes)} is less than the training libraries need before any model "
            f"is loaded ({format_size(needed_bytes)})",
            hint=f"give more than {format_size(needed_bytes)}: the model and its training come on top",
        )


def rates_of(situation: Situation, threads: int) -> Mapping[Allocator, Rates]:
    """The rates under each allocator: this machine's, measured; a GPU's, from the maker's figures.

    For a named machine without bf16 instructions its bf16 products are taken to be as slow as they are there.
    """
    hardware = situation.hardware
    if situation.budget.device == "cuda":
        rates = gpu_rates(hardware.gpus[0])
        return {"default": rates, "expandable": rates}
    allocators: tuple[Allocator, ...] = ("pinned", "default")
    measured = {allocator: measured_rates(allocator, threads) for allocator in allocators}
    if hardware.name == THIS_MACHINE or hardware.computes_bf16:
        return measured
    return {allocator: _without_bf16(rates) for allocator, rates in measured.items()}


def _without_bf16(rates: Rates) -> Rates:
    by_dtype = dict(rates.matmul_flop_per_s)
    slow = {
        width: {rows: rate * BF16_WITHOUT_INSTRUCTIONS[width] for rows, rate in by_rows.items()}
        for width, by_rows in by_dtype["float32"].items()
    }
    return replace(rates, matmul_flop_per_s={**by_dtype, "bfloat16": slow})
