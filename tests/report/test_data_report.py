"""A data set as people see it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lplan.planner.data_report import (
    Cut,
    DataReport,
    Finding,
    LabelCount,
    LengthBin,
    PaddingWaste,
    WorstBatch,
)
from lplan.report.data import data_view

REPORT = DataReport(
    location="data/banking77",
    format="folder",
    task="banking77",
    model="HuggingFaceTB/SmolLM2-135M-Instruct",
    splits={"train": 9003, "validation": 1000, "test": 3080},
    template="the model's own chat template",
    percentiles={50: 111, 90: 128, 95: 138, 99: 154, 100: 1201},
    answer_percentiles={50: 44, 90: 55, 95: 57, 99: 58, 100: 58},
    tokens=1_019_857,
    supervised_tokens=407_943,
    histogram=(
        LengthBin(first=64, last=95, samples=1450),
        LengthBin(first=96, last=127, samples=7000),
        LengthBin(first=128, last=159, samples=550),
        LengthBin(first=160, last=1201, samples=3),
    ),
    cuts=(
        Cut(seq_len=64, samples=9003, answer_tokens=319_018, emptied=2),
        Cut(seq_len=128, samples=893, answer_tokens=0, emptied=0),
    ),
    worst_batches=(
        WorstBatch(batch_size=1, rows=1, seq_len=1216, tokens=1201, supervised=51),
        WorstBatch(batch_size=16, rows=16, seq_len=1216, tokens=2593, supervised=858),
    ),
    padding=(
        PaddingWaste(batch_size=1, shuffled=0.0, grouped=0.065, packed=0.36),
        PaddingWaste(batch_size=16, shuffled=0.2, grouped=0.074, packed=0.012),
    ),
    labels=tuple(LabelCount(label=f"intent_{i}", train=99 - i, held_out=i) for i in range(9)),
    findings=(
        Finding(check="leakage", count=24, text="requests of test that are in train as well: 24", reason="why"),
    ),
)  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_golden_data(golden, render, width):
    golden(f"data_{width}", render(data_view(REPORT), width=width))


def test_nothing_found_is_said(render):
    assert "nothing to complain of" in render(data_view(replace(REPORT, findings=(), labels=())))
