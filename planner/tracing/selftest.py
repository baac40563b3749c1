"""Measures how fast this machine computes and moves memory: `python -m lplan.planner.tracing.selftest THREADS`.

Prints one JSON object. Run under the allocator settings whose rates are wanted: fresh pages are part of the cost.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

WIDTHS = (512, 2048)
_TOKENS = 256
_SECONDS_EACH = 0.25
_LARGE = 1 << 22
"""Elements of a tensor that no cache holds."""
_CHAIN = 100
_OPS_A_LINK = 4
"""A product and a scaling, and the gradient of each."""


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(int(sys.argv[1]))
    with torch.no_grad():
        rates = {
            "matmul_flop_per_s": {
                dtype: {str(width): _matmul(width, getattr(torch, dtype)) for width in WIDTHS}
                for dtype in ("float32", "bfloat16")
            },
            "traffic_bytes_per_s": _traffic(),
            "random_elements_per_s": _random(),
            "op_s": _op(),
        }
    print(json.dumps(rates))  # noqa: T201


def _best_s(run: Callable[[], object]) -> float:
    """The fastest of many: other programs only ever add to a time."""
    run()
    times: list[float] = []
    end = time.perf_counter() + _SECONDS_EACH
    while len(times) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def _matmul(width: int, dtype: torch.dtype) -> float:
    tokens = torch.randn(_TOKENS, width).to(dtype)
    weight = torch.randn(width * 3, width).to(dtype)
    return 2 * _TOKENS * width * width * 3 / _best_s(lambda: F.linear(tokens, weight))


def _traffic() -> float:
    left, right = torch.randn(2, _LARGE)
    moved_bytes: int = 3 * left.nbytes
    return moved_bytes / _best_s(lambda: left * right)


def _random() -> float:
    values = torch.empty(1 << 18)
    return values.numel() / _best_s(lambda: values.bernoulli_(0.95))


def _op() -> float:
    """Seconds of one op on tensors so small that only calling it counts, in forward and backward alike."""
    weight = torch.ones(64, 64, dtype=torch.bfloat16)
    start = torch.ones(16, 64, dtype=torch.bfloat16, requires_grad=True)

    def chain() -> None:
        value = start
        for _ in range(_CHAIN):
            value = F.linear(value, weight) * 0.5
        value.sum().backward()

    with torch.enable_grad():
        return _best_s(chain) / (_CHAIN * _OPS_A_LINK)


if __name__ == "__main__":
    main()
