"""Estimates against lplan's own worker on a real GPU: benchmarks/results/gpu_runs-nvidia-h200.json.

Nothing is fitted to these runs but the context. They were made with torch 2.11, not with the pinned release.
"""

from __future__ import annotations

import json
import warnings
from statistics import mean
from typing import Any

import pytest

from lplan.benchmarks.gpu_accuracy import compared, error
from lplan.benchmarks.machine_info import RESULTS
from lplan.profiles.hardware import Gpu

QUICK = (
    "smollm2-135m lora",
    "tinyllama chunked",
    "tinyllama eager",
    "gpt2 full fp32",
    "opt-125m padded 4x256",
    "qwen2.5-0.5b 4x1024 ckpt chunked",
    "tinyllama full bf16 adamw-8bit",
    "tinyllama full bf16 adafactor",
    "tinyllama bf16-amp",
)
QUANTIZED = ("tinyllama int8", "tinyllama nf4 unprepared", "tinyllama nf4 bf16-amp", "smollm2-135m nf4")


def stored(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    """The quick ones, estimated now."""
    runs = stored("gpu_runs-nvidia-h200")
    gpu = Gpu(**{**runs["gpu"], "capability": tuple(runs["gpu"]["capability"])})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            row["case"]: compared(row, gpu) for row in runs["rows"] if row["case"] in (*QUICK, *QUANTIZED)
        }


@pytest.mark.parametrize("case", QUICK)
def test_peaks_to_a_hundredth(rows, case):
    assert abs(error(rows[case], "allocated")) <= 0.005
    assert abs(error(rows[case], "reserved")) <= 0.01
    assert abs(error(rows[case], "process")) <= 0.01


@pytest.mark.parametrize("case", QUANTIZED)
def test_a_base_that_is_quantized_by_racing_threads(rows, case):
    assert abs(error(rows[case], "allocated")) <= 0.005
    assert abs(error(rows[case], "reserved")) <= 0.05


def test_every_stored_run_was_compared_and_few_are_far():
    measured, found = stored("gpu_runs-nvidia-h200")["rows"], stored("gpu_accuracy")["rows"]
    assert [row["case"] for row in found] == [row["case"] for row in measured]
    assert len(found) == 71
    shares = {row["case"]: error(row, "allocated") for row in found}
    assert mean(map(abs, shares.values())) <= 0.001
    assert max(map(abs, shares.values())) <= 0.005, shares
    assert min(error(row, "process") for row in found) >= -0.1
