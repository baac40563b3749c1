"""Ways to train side by side: the parts add up, adapters are small, and prices follow time."""

from __future__ import annotations

import made_up
import pytest

from lplan.planner.compare import RANKS, compare
from lplan.planner.recipe import Recipe


@pytest.fixture(autouse=True)
def _installed(monkeypatch, tmp_path):
    made_up.install(monkeypatch, tmp_path)


def ways(price=None):
    recipe = Recipe(seq_len=128, supervised_len=128, padding="none")
    return {way.name: way for way in compare(made_up.task(recipe=recipe), price)}


def test_a_cpu_has_all_but_qlora():
    assert list(ways()) == ["from scratch", "full", *(f"LoRA r {rank}" for rank in RANKS)]


def test_the_parts_add_up():
    for way in ways().values():
        assert way.weights_bytes + way.state_bytes + way.rest_bytes == way.peak_bytes
        assert sum(way.components.values()) == way.peak_bytes
        assert way.means
        assert way.take_when
        assert way.cost is None


def test_an_adapter_is_kept_in_fp32_and_a_model_in_its_own_dtype():
    found = ways()
    assert found["LoRA r 8"].saved_bytes == 4 * made_up.TRAINABLE
    assert found["full"].saved_bytes == 2 * made_up.PARAMETERS
    assert found["full"].state_bytes > found["LoRA r 8"].state_bytes


def test_a_checkpoint_holds_the_optimizers_states_too():
    for name, trained in (("LoRA r 8", made_up.TRAINABLE), ("full", made_up.PARAMETERS)):
        way = ways()[name]
        assert way.checkpoint_bytes - way.saved_bytes == 8 * trained  # two fp32 moments a parameter


def test_cost_is_hours_times_price():
    way = ways(price=2.0)["LoRA r 8"]
    assert way.cost == pytest.approx(way.total_s / 3600 * 2.0)
