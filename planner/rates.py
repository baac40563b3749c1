"""How fast a machine is: measured once by a short self-test in a process of its own, and cached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Any

from ..profiles.errors import LplanError
from .allocator import environment_of
from .recipe import Allocator
from .store import FootprintStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Rates of one machine with a number of threads under one allocator."""

    matmul_flop_per_s: Mapping[str, Mapping[int, Mapping[int, float]]]
    """By dtype, width and rows (tokens of a micro batch)."""
    traffic_bytes_per_s: float
    random_elements_per_s: float
    op_s: float
    transfer_bytes_per_s: float | None = None
    """Between host and device, one way at a time."""
    attention_flop_per_s: Mapping[str, float] | None = None
    """Of fused attention by dtype; None takes the rate of plain products."""

    overlaps: bool = False
    """Whether ops are only issued by the processor that runs the program, and done beside it by another (a GPU)."""
    tf32_flop_per_s: float | None = None
    """Of fp32 products by TF32's tensor cores; None where there are none."""

    def computing(self, *, tf32: bool) -> Rates:
        """The rates with fp32 products as they are asked for."""
        if not tf32 or self.tf32_flop_per_s is None:
            return self
        fast = {**self.matmul_flop_per_s, "float32": {1: {1: self.tf32_flop_per_s}}}
        return replace(self, matmul_flop_per_s=fast)

    def attention(self, dtype: str, width: int, rows: float) -> float:
        """FLOP/s of fused attention."""
        found = (self.attention_flop_per_s or {}).get(dtype)
        return self.matmul(dtype, width, rows) if found is None else found

    def matmul(self, dtype: str, width: int, rows: float) -> float:
        """FLOP/s of a product, interpolated on logarithmic scales between the measured ones."""
        by_width = self.matmul_flop_per_s[dtype]
        return _between({at: _between(by_rows, rows) for at, by_rows in by_width.items()}, width)


def _between(measured: Mapping[int, float], at: float) -> float:
    (low, slow), (high, fast) = min(measured.items()), max(measured.items())
    if low == high:
        return slow
    share = min(1.0, max(0.0, log(at / low) / log(high / low)))
    return slow + share * (fast - slow)


def measured_rates(allocator: Allocator, threads: int, store: FootprintStore | None = None) -> Rates:
    """This machine's rates: from the cache, or measured now (some ten seconds).

    Matrix products don't know the allocator, so they are measured once.
    """
    store = store or FootprintStore()
    products = _known(store, f"products-{threads}", lambda: _measure("pinned", threads, "products"))
    memory = _known(store, f"memory-{allocator}-{threads}", lambda: _measure(allocator, threads, "memory"))
    return rates_from(products, memory)


def known_rates(allocator: Allocator, threads: int, store: FootprintStore | None = None) -> Rates | None:
    """This machine's rates where they were measured before; None where they were not."""
    store = store or FootprintStore()
    products, memory = (
        store.find_fact(f"products-{threads}"),
        store.find_fact(f"memory-{allocator}-{threads}"),
    )
    return None if products is None or memory is None else rates_from(products, memory)


def rates_from(products: Mapping[str, Any], memory: Mapping[str, Any]) -> Rates:
    """Rates from JSON: products by dtype, width and rows, and the other fields."""
    by_dtype = {
        dtype: {
            int(width): {int(rows): rate for rows, rate in by_rows.items()}
            for width, by_rows in by_width.items()
        }
        for dtype, by_width in products.items()
    }
    return Rates(**memory, matmul_flop_per_s=by_dtype)


def _known(store: FootprintStore, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    found = store.find_fact(name)
    if found is None:
        found = measure()
        store.keep_fact(name, found)
    return found


def _measure(allocator: Allocator, threads: int, kind: str) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "lplan.planner.tracing.selftest", str(threads), kind],
        env={**os.environ, **environment_of(allocator, threads=threads), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        measured: dict[str, Any] = json.loads(run.stdout)
    except ValueError as error:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise LplanError(
            f"the machine's self-test failed: {last}", hint="does `python -c 'import torch'` work?"
        ) from error
    return measured
