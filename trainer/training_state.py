"""What a checkpoint holds: trained weights, optimizer, schedule, random state. Safetensors and JSON, no pickles."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .tensor_file import write_tensors

_WEIGHTS, _OPTIMIZER, _RANDOM, _STATE = (
    "weights.safetensors", "optimizer.safetensors", "random.safetensors", "state.json",
)  # fmt: skip


def write_weights(folder: Path, model: nn.Module) -> None:
    """The weights that are trained. Raises OSError."""
    write_tensors(folder / _WEIGHTS, dict(_trained(model)))


def read_weights(folder: Path, model: nn.Module) -> None:
    """Put them back, one at a time."""
    with torch.no_grad(), _open(folder / _WEIGHTS) as file:
        for name, parameter in _trained(model):
            parameter.copy_(file.get_tensor(name))


def write_progress(folder: Path, optimizer: Any, scheduler: Any, scaler: Any) -> None:
    """Optimizer, learning-rate schedule, gradient scaler and random state. Raises OSError."""
    inner = getattr(optimizer, "optimizer", optimizer)
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for number, parameter in enumerate(_parameters(inner)):
        for name, value in inner.state.get(parameter, {}).items():
            (tensors if isinstance(value, Tensor) else plain)[f"{number}.{name}"] = value
    groups = [{k: v for k, v in group.items() if k != "params"} for group in inner.param_groups]
    write_tensors(folder / _OPTIMIZER, tensors)
    write_tensors(folder / _RANDOM, _random_tensors())
    state = {
        "groups": groups,
        "plain": plain,
        "scheduler": scheduler.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "python": random.getstate(),
        "numpy": _numpy_state(),
    }
    with (folder / _STATE).open("w", encoding="utf-8") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())


def read_progress(folder: Path, optimizer: Any, scheduler: Any, scaler: Any) -> None:
    """Put optimizer, schedule and scaler back, one tensor at a time."""
    inner = getattr(optimizer, "optimizer", optimizer)
    state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    parameters = list(_parameters(inner))
    with _open(folder / _OPTIMIZER) as file:
        for key in file.keys():  # noqa: SIM118 - a safetensors file, not a mapping
            number, _, name = key.partition(".")
            parameter = parameters[int(number)]
            # A step counter stays where torch made it: on the CPU, unless the optimizer is fused.
            own = name == "step" and not inner.defaults.get("fused")
            value = file.get_tensor(key).clone()
            inner.state[parameter][name] = value if own else value.to(parameter.device)
    for key, value in state["plain"].items():
        number, _, name = key.partition(".")
        inner.state[parameters[int(number)]][name] = value
    for group, saved in zip(inner.param_groups, state["groups"], strict=True):
        group.update({k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()})
    scheduler.load_state_dict(state["scheduler"])
    if scaler is not None and state["scaler"]:
        scaler.load_state_dict(state["scaler"])


def set_rate(optimizer: Any, scheduler: Any, rate: float) -> None:
    """Go on with this learning rate at the schedule's top, whatever the checkpoint was written with."""
    inner, schedule = getattr(optimizer, "optimizer", optimizer), getattr(scheduler, "scheduler", scheduler)
    for group in inner.param_groups:
        group["lr"] *= rate / group["initial_lr"]
        group["initial_lr"] = rate
    schedule.base_lrs = [rate for _ in schedule.base_lrs]


def read_random(folder: Path) -> None:
    """Put every random generator back where it was."""
    import numpy

    state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    version, values, gauss = state["python"]
    random.setstate((version, tuple(values), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    numpy.random.set_state((name, numpy.array(keys, dtype="uint32"), position, has_gauss, cached))
    with _open(folder / _RANDOM) as file:
        torch.set_rng_state(file.get_tensor("cpu").clone())
        for key in file.keys():  # noqa: SIM118
            if key.startswith("cuda."):
                torch.cuda.set_rng_state(file.get_tensor(key).clone(), int(key.removeprefix("cuda.")))


@contextmanager
def random_kept() -> Iterator[None]:
    """Leave every random generator as it was found."""
    import numpy

    python, numbers = random.getstate(), numpy.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        numpy.random.set_state(numbers)


def all_finite(model: nn.Module) -> bool:
    """Whether every weight that is trained is a number; by sums, which take no memory."""
    return all(bool(p.detach().sum(dtype=torch.float32).isfinite()) for _, p in _trained(model))


def _random_tensors() -> dict[str, Tensor]:
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return tensors


def _numpy_state() -> list[Any]:
    import numpy

    name, keys, *rest = numpy.random.get_state(legacy=True)
    return [name, [int(key) for key in keys], *rest]


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def _parameters(optimizer: Any) -> Iterator[nn.Parameter]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def _open(path: Path) -> Any:
    from safetensors import safe_open

    return safe_open(str(path), framework="pt")
