"""The knobs that a search may set, and their values by device. None changes what is learned, to rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..profiles.gpu import BF16_CAPABILITY
from .task import Task


def values(task: Task, knob: str) -> Iterable[Any]:
    """The values of a knob: the one that was given, or all that make sense."""
    start = task.start
    if knob in task.given or knob in task.aim.keep:
        return (getattr(start, knob),)
    return _VALUES[knob](task)


def bf16_is_better(task: Task) -> bool:
    """Whether bf16 wins in time as it does in memory, by the measured matrix products: then fp32 need not be priced."""
    width = hidden_size(task.situation.model.config)
    rows = task.start.batch_size * task.start.seq_len
    rates = task.rates["default"]
    return rates.matmul("bfloat16", width, rows) > rates.matmul("float32", width, rows)


def hidden_size(config: Mapping[str, Any]) -> int:
    """The width of a model's hidden states, whatever its config.json calls it."""
    for name in ("hidden_size", "n_embd", "d_model", "dim"):
        if isinstance(config.get(name), int):
            return int(config[name])
    return 1024


def _batch_sizes(task: Task) -> Iterable[int]:
    start = task.start
    if "accumulation" in task.given:
        return (start.batch_size,)
    effective = start.effective_batch
    return tuple(n for n in range(1, effective + 1) if effective % n == 0)


def _precisions(task: Task) -> Iterable[str]:
    if task.aim.objective == "quality":
        return _every_precision(task)
    if task.start.device == "cpu":
        return ("bf16",) if bf16_is_better(task) else ("bf16", "fp32")
    if task.situation.hardware.gpus[0].capability >= BF16_CAPABILITY:
        return ("bf16",)
    return ("fp16",) if task.start.adapts else ("fp16-amp",)


def _every_precision(task: Task) -> Iterable[str]:
    """The highest first: fp32 weights, fp32 weights under autocast, 16-bit weights."""
    if task.start.quantization != "none":
        return (task.start.precision,)
    if task.start.device == "cpu" or task.situation.hardware.gpus[0].capability >= BF16_CAPABILITY:
        return ("fp32", "bf16-amp", "bf16")
    return ("fp32", "fp16-amp", *(("fp16",) if task.start.adapts else ()))


def _casting(task: Task) -> Iterable[bool]:
    start = task.start
    return (
        (False,)
        if start.adapts and start.quantization == "none" and start.adapter_dtype == "fp32"
        else (True,)
    )


def _allocators(task: Task) -> Iterable[str]:
    """PyTorch's own default on a GPU; the search turns to expandable segments where nothing fits with it."""
    return ("pinned", "default") if task.start.device == "cpu" else ("default",)


_VALUES: Mapping[str, Callable[[Task], Iterable[Any]]] = {
    "batch_size": _batch_sizes,
    "precision": _precisions,
    "checkpointing": lambda _: ("none", "every-2", "full"),
    "loss": lambda _: ("full", "supervised", "chunked"),
    "input_casting": _casting,
    "optimizer": lambda _: ("adamw-fused",),
    "allocator": _allocators,
}
"""A knob that floats is a line here; what the values cost and gain comes from their traces."""
FLOATING = tuple(_VALUES)
