"""Measures how fast this machine computes and moves memory: `python -m lplan.planner.tracing.selftest THREADS KIND`.

Prints one JSON object. Run under the allocator settings whose rates are wanted: fresh pages are part of the cost.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

WIDTHS = (512, 2048)
ROWS = (128, 1024)
"""Tokens of a micro batch: few of them leave a product waiting for its weights."""
_WEIGHTS_BYTES = 1 << 26
"""Weights that take turns, more than caches hold: in training each is used once a pass."""
_SECONDS_EACH = 0.25
_MOST_S = 0.5
"""The longest that one run may take: without bf16 instructions a thousand rows of bf16 take half a minute."""
_LARGE = 1 << 22
"""Elements of a tensor that no cache holds."""
_ATTENDED = (2, 8, 256, 64)
"""Sequences, heads, tokens, width of a head."""
_ATTENTION_PRODUCTS = 7
"""Two forward, five backward (planner.tracing.work)."""
_CHAIN = 100
_OPS_A_LINK = 4
"""A product and a scaling, and the gradient of each."""


def main() -> None:
    """Measure and print: what products cost, or (argument "memory") what memory and calls do."""
    torch.set_num_threads(int(sys.argv[1]))
    with torch.no_grad():
        print(json.dumps(_memory() if sys.argv[2] == "memory" else _products()))  # noqa: T201


def _products() -> dict[str, Any]:
    return {
        dtype: rates_by_size(partial(_matmul, dtype=getattr(torch, dtype)))
        for dtype in ("float32", "bfloat16")
    }


def rates_by_size(measure: Callable[[int, int], float]) -> dict[str, dict[str, float]]:
    """FLOP/s by width and rows, as `measure` finds them.

    A product that would take too long has the rate of the smaller one before it: arithmetic so slow never waits
    for memory, whatever its size.
    """
    found: dict[str, dict[str, float]] = {}
    rate: float | None = None
    for width in WIDTHS:
        found[str(width)] = {}
        for rows in ROWS:
            if rate is None or _flop(width, rows) / rate < _MOST_S:
                rate = measure(width, rows)
            found[str(width)][str(rows)] = rate
    return found


def _flop(width: int, rows: int) -> int:
    """Of a linear forward and its input's gradient."""
    return 4 * rows * width * width


def _memory() -> dict[str, Any]:
    return {
        "traffic_bytes_per_s": _traffic(),
        "random_elements_per_s": _random(),
        "op_s": _op(),
        "attention_flop_per_s": {
            dtype: _attention(getattr(torch, dtype)) for dtype in ("float32", "bfloat16")
        },
    }


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _best_s(run: Callable[[], object], least: int = 3) -> float:
    """The fastest of many: other programs only ever add to a time."""
    run()
    times: list[float] = []
    end = time.perf_counter() + _SECONDS_EACH
    while len(times) < least or time.perf_counter() < end:
        times.append(_seconds(run))
    return min(times)


def _matmul(width: int, rows: int, dtype: torch.dtype) -> float:
    """FLOP/s of a frozen linear forward and of its input's gradient, weights fresh from memory."""
    tokens = torch.randn(rows, width).to(dtype)
    size_bytes = width * width * tokens.element_size()
    weights = [torch.full((width, width), 0.1, dtype=dtype) for _ in range(_WEIGHTS_BYTES // size_bytes)]

    def run(some: Sequence[torch.Tensor]) -> None:
        for weight in some:
            F.linear(tokens, weight)
        for weight in some:
            torch.mm(tokens, weight)

    once_s = min(_seconds(lambda: run(weights[:1])) for _ in range(3))
    if once_s > _SECONDS_EACH:
        return _flop(width, rows) / once_s
    few = weights[: int(_SECONDS_EACH / once_s)]
    return _flop(width, rows) * len(few) / _best_s(lambda: run(few), least=2)


def _traffic() -> float:
    left, right = torch.randn(2, _LARGE)
    moved_bytes: int = 3 * left.nbytes
    return moved_bytes / _best_s(lambda: left * right)


def _random() -> float:
    values = torch.empty(1 << 18)
    return values.numel() / _best_s(lambda: values.bernoulli_(0.95))


def _attention(dtype: torch.dtype) -> float:
    """FLOP/s of fused attention under a mask, forward and backward, as planner.tracing.work counts them."""
    query, key, value = (torch.randn(_ATTENDED).to(dtype).requires_grad_() for _ in ("query", "key", "value"))
    mask = torch.ones(_ATTENDED[2], _ATTENDED[2], dtype=torch.bool).tril()
    gradient = torch.ones(_ATTENDED, dtype=dtype)

    def run() -> None:
        F.scaled_dot_product_attention(query, key, value, mask).backward(gradient)

    batch, heads, length, width = _ATTENDED
    flop = 2 * _ATTENTION_PRODUCTS * batch * heads * length * length * width
    with torch.enable_grad():
        once_s = min(_seconds(run) for _ in range(2))
        return flop / (once_s if once_s > _SECONDS_EACH else _best_s(run))


def _op() -> float:
    """Seconds of one op on tensors so small that only calling it counts, in forward and backward alike."""
    weight = torch.ones(64, 64)
    start = torch.ones(16, 64, requires_grad=True)

    def chain() -> None:
        value = start
        for _ in range(_CHAIN):
            value = F.linear(value, weight) * 0.5
        value.sum().backward()

    with torch.enable_grad():
        return _best_s(chain) / (_CHAIN * _OPS_A_LINK)


if __name__ == "__main__":
    main()
