"""Estimates for CUDA against runs that nobody here made (tests/data): T4 by fitcheck-llm, A100 by fms-acceleration.

Of the constants only the context of a T4 was read from these rows; nothing was fitted to allocated or reserved bytes.
"""

from __future__ import annotations

import warnings
from statistics import mean

import pytest

from lplan.benchmarks.accuracy import Predictor, Result
from lplan.benchmarks.published.fms import a100_rows
from lplan.benchmarks.truth import t4_rows


@pytest.fixture(scope="module")
def t4() -> list[Result]:
    predictor = Predictor()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [predictor.predict(row) for row in t4_rows()]


@pytest.fixture(scope="module")
def a100() -> list[Result]:
    predictor = Predictor()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [predictor.predict(row) for row in a100_rows()]


def errors(results: list[Result], what: str, group: str = "") -> dict[str, float]:
    """Per cent by row."""
    found = {r.name: r.error(what) for r in results if group in r.group}
    assert found
    return {name: error for name, error in found.items() if error is not None}


def test_tensors_on_a_t4(t4):
    found = errors(t4, "allocated")
    assert len(found) == 49
    assert mean(map(abs, found.values())) <= 0.5
    assert max(map(abs, found.values())) <= 1.5, found


def test_the_process_on_a_t4(t4):
    found = errors(t4, "process")
    assert mean(map(abs, found.values())) <= 2.5
    assert min(found.values()) >= -5, found


def test_without_quantization_the_allocator_is_simulated_to_the_segment(t4):
    """Loading is deterministic there; a quantized base is loaded by threads that race."""
    for group in ("LoRA sdpa", "LoRA eager"):
        found = errors([r for r in t4 if "QLoRA" not in r.group], "reserved", group)
        assert max(map(abs, found.values())) <= 0.3, found


def test_tensors_on_an_a100(a100):
    found = errors(a100, "allocated")
    assert len(found) == 20
    assert mean(map(abs, found.values())) <= 1
    assert max(map(abs, found.values())) <= 3, found


def test_a_packed_base_to_a_part_in_a_thousand(a100):
    """The stand-ins were written from AutoGPTQ's and gptqmodel's sources; these rows were looked at afterwards."""
    found = errors(a100, "allocated", "over GPTQ")
    assert len(found) == 4
    assert max(map(abs, found.values())) <= 0.1, found
