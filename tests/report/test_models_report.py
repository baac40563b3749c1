"""The table of models: golden at two widths, and its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lplan.profiles.catalogue import catalogue
from lplan.profiles.model import WeightFiles
from lplan.report.models import models_table, parameters_text

LONGEST = (
    "tinyllama",
    "qwen2.5-72b",
    "qwen3-30b-a3b",
    "deepseek-r1-distill-qwen-1.5b",
    "gpt-oss-20b",
    "gpt2",
)


@pytest.mark.parametrize("width", [80, 120])
def test_models_table(render: Callable[..., str], golden: Callable[[str, str], None], width: int) -> None:
    table = models_table(catalogue()[alias] for alias in LONGEST)
    golden(f"models_{width}", render(table, width=width))


@pytest.mark.parametrize("width", [80, 109, 110, 120])
def test_nothing_is_cut_off(render: Callable[..., str], width: int) -> None:
    text = render(models_table(catalogue().values()), width=width)
    assert "…" not in text
    for profile in catalogue().values():
        assert f"{profile.alias} " in text
        assert profile.id in text
    assert max(map(len, text.splitlines())) <= width


def test_what_is_not_known_is_a_dot(render: Callable[..., str]) -> None:
    unknown = replace(
        catalogue()["gpt2"],
        alias=None,
        parameters=None,
        weights=WeightFiles(format="none", dtype="float32", total_bytes=0),
    )
    row = render(models_table([unknown])).splitlines()[-1]
    assert row.split() == ["openai-community/gpt2", "GPT2", "·", "float32", "·"]


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (1_100_048_384, "1.10 B"),
        (999_885_952, "1.00 B"),
        (999_499_999, "999 M"),
        (134_515_008, "135 M"),
        (70_553_706_496, "70.55 B"),
    ],
)
def test_parameters_text(parameters: int, text: str) -> None:
    assert parameters_text(parameters) == text
