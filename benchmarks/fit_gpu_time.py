"""How fast GPUs are, fitted to the step times of tests/data/t4.jsonl: `python -m benchmarks.fit_gpu_time [--write]`.

Six numbers for 49 runs, by coordinate descent on squared logarithms; validated by leaving whole models out.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Mapping, Sequence
from math import exp, log
from pathlib import Path
from statistics import mean, median

from rich.console import Console
from rich.table import Table

from lplan.planner import cuda
from lplan.planner.estimating import shape_of
from lplan.profiles.named import find_hardware

from .accuracy import Predictor
from .machine_info import store
from .rows import Row
from .truth import t4_rows

KINDS = ("matmul float16", "matmul float32", "attention float16", "attention float32", "traffic", "ops")
_START = (2e13, 4e12, 1e13, 3e12, 2e11, 5e4)
_NAMES = ("half_matmul", "float_matmul", "half_attention", "float_attention", "bandwidth", "op_s")


Work = tuple[Sequence[float], Sequence[float]]
"""Of the micro batches, and of the optimizer, by KINDS."""


def work_of(row: Row, predictor: Predictor) -> Work:
    """A step's work."""
    footprint, values = predictor.footprint(row), shape_of(row.recipe).values()
    found = {owner: dict.fromkeys(KINDS, 0.0) for owner in ("micro", "optimizer")}
    for name, part in footprint.work.items():
        owner, kind = name.split(" ", 1)
        if kind in found[owner]:
            found[owner][kind] += part.at(values, footprint.extra_units)
    return tuple(found["micro"].values()), tuple(found["optimizer"].values())


def seconds(work: Work, rates: Sequence[float]) -> float:
    """A step's time at these rates, a second: the GPU's, or that of issuing its ops (planner/timing.py)."""
    return sum(_part(part, rates) for part in work)


def _part(amounts: Sequence[float], rates: Sequence[float]) -> float:
    *device, issued = (amount / rate for amount, rate in zip(amounts, rates, strict=True))
    return max(sum(device), issued)


def fit(runs: Sequence[tuple[Work, float]]) -> list[float]:
    """The rates that explain these (work, seconds) best."""
    best = [log(rate) for rate in _START]

    def loss(logs: Sequence[float]) -> float:
        rates = [exp(value) for value in logs]
        return sum(log(seconds(work, rates) / measured) ** 2 for work, measured in runs)

    least, step = loss(best), 0.5
    while step > 1e-4:
        tried = [
            [*best[:i], best[i] + sign * step, *best[i + 1 :]] for i in range(len(best)) for sign in (1, -1)
        ]
        found = min(tried, key=loss)
        if loss(found) < least:
            best, least = found, loss(found)
        else:
            step /= 2
    return [exp(value) for value in best]


def write(rates: Sequence[float]) -> None:
    """Put the shares of the T4's figures into planner/cuda.toml."""
    gpu = find_hardware("t4").gpus[0]
    assert gpu.bandwidth_bytes_per_s is not None
    whole = (gpu.half_flop_per_s or 0, gpu.float_flop_per_s or 0) * 2
    shares = [
        *(rate / most for rate, most in zip(rates, whole, strict=False)),
        rates[4] / gpu.bandwidth_bytes_per_s,
    ]
    values: Mapping[str, float] = dict(zip(_NAMES, [*shares, 1 / rates[5]], strict=True))
    path = Path(cuda.__file__).with_name("cuda.toml")
    text = path.read_text(encoding="utf-8")
    for name, value in values.items():
        text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {value:.3g}", text)
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Fit, validate, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into planner/cuda.toml")
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    predictor = Predictor()
    rows = [(row, work_of(row, predictor), row.step_s) for row in t4_rows() if row.step_s is not None]
    table = Table(
        "left out", "runs", "median |error|", "lowest", "highest", title="step time, % of the measurement"
    )
    errors: dict[str, float] = {}
    for model in dict.fromkeys(row.model for row, _, _ in rows):
        rates = fit([(work, measured) for row, work, measured in rows if row.model != model])
        found = {r.name: 100 * (seconds(w, rates) / m - 1) for r, w, m in rows if r.model == model}
        table.add_row(
            model, str(len(found)), f"{median(map(abs, found.values())):.1f}",
            f"{min(found.values()):+.1f}", f"{max(found.values()):+.1f}",
        )  # fmt: skip
        errors |= found
    table.add_row(
        "all", str(len(errors)), f"{median(map(abs, errors.values())):.1f}",
        f"{min(errors.values()):+.1f}", f"{max(errors.values()):+.1f}",
    )  # fmt: skip
    rates = fit([(work, measured) for _, work, measured in rows])
    console = Console()
    console.print(table)
    console.print({kind: f"{rate:.3g}" for kind, rate in zip(KINDS, rates, strict=True)})
    console.print(f"mean |error| {mean(map(abs, errors.values())):.1f} %")
    console.print(f"stored in {store('gpu_time', errors)}")
    if chosen.write:
        write(rates)


if __name__ == "__main__":
    main()
