"""How fast a machine is: measured once by a short self-test in a process of its own, and cached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any

from ..profiles.errors import LplanError
from .allocator import environment_of
from .recipe import Allocator
from .store import FootprintStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Rates of one machine with a number of threads under one allocator."""

    matmul_flop_per_s: Mapping[str, Mapping[int, float]]
    """By dtype and width."""
    traffic_bytes_per_s: float
    random_elements_per_s: float
    op_s: float

    def matmul(self, dtype: str, width: int) -> float:
        """FLOP/s at a width, interpolated on a logarithmic scale between the measured ones."""
        measured = sorted(self.matmul_flop_per_s[dtype].items())
        (narrow, slow), (wide, fast) = measured[0], measured[-1]
        share = min(1.0, max(0.0, log(width / narrow) / log(wide / narrow)))
        return slow + share * (fast - slow)


def measured_rates(allocator: Allocator, threads: int, store: FootprintStore | None = None) -> Rates:
    """This machine's rates: from the cache, or measured now (a few seconds)."""
    store = store or FootprintStore()
    name = f"rates-{allocator}-{threads}"
    found = store.find_fact(name)
    if found is None:
        found = _measure(allocator, threads)
        store.keep_fact(name, found)
    return _rates(found)


def _rates(data: Mapping[str, Any]) -> Rates:
    by_dtype = {
        dtype: {int(width): rate for width, rate in rates.items()}
        for dtype, rates in data["matmul_flop_per_s"].items()
    }
    return Rates(**{**data, "matmul_flop_per_s": by_dtype})


def _measure(allocator: Allocator, threads: int) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "lplan.planner.tracing.selftest", str(threads)],
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
