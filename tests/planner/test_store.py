from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lplan.planner import store as store_module
from lplan.planner.footprint import Footprint, Instant, Linear
from lplan.planner.polynomial import Shape, term
from lplan.planner.recipe import Recipe
from lplan.planner.store import CACHE_VARIABLE, FootprintStore, cache_folder

CONFIG = {"model_type": "llama", "hidden_size": 64}
SHAPE = Shape(batch=2, seq=16, supervised=20, chunk=8)
PART = Linear(term("BS", 2), term("1", 3))
FOUND = Footprint(
    architecture="Handmade",
    layers=8,
    period=1,
    traced_layers=3,
    target_modules=("q_proj",),
    phases={"first step": (Instant({"weights": PART}),)},
    work={"micro ops": PART},
    parameters=PART,
    trainable_parameters=PART,
    embedding_bytes=7,
    shared_head=False,
    chunkable=True,
)


@pytest.fixture
def store(tmp_path: Path) -> FootprintStore:
    """A store that holds FOUND for the default recipe."""
    store = FootprintStore(tmp_path)
    store.keep(CONFIG, Recipe(), FOUND)
    return store


def test_what_was_kept_is_found_by_another_process(store: FootprintStore) -> None:
    assert FootprintStore(store.folder).find(CONFIG, Recipe(), SHAPE) == FOUND


@pytest.mark.parametrize(
    "knobs", [{"batch_size": 8}, {"seq_len": 64}, {"threads": 7}, {"alpha": 3}, {"accumulation": 9}]
)
def test_knobs_outside_the_graph_find_the_same(store: FootprintStore, knobs: dict[str, Any]) -> None:
    assert store.find(CONFIG, Recipe(**knobs), replace(SHAPE, batch=9, seq=99)) == FOUND


@pytest.mark.parametrize(
    "knobs", [{"rank": 4}, {"precision": "fp32"}, {"checkpointing": "full"}, {"loss": "chunked"}]
)
def test_another_graph_is_another_entry(store: FootprintStore, knobs: dict[str, Any]) -> None:
    assert store.find(CONFIG, Recipe(**knobs), SHAPE) is None


def test_another_model_is_another_entry(store: FootprintStore) -> None:
    assert store.find({**CONFIG, "hidden_size": 65}, Recipe(), SHAPE) is None


def test_the_order_of_a_configuration_does_not_matter(store: FootprintStore) -> None:
    assert store.find(dict(reversed(CONFIG.items())), Recipe(), SHAPE) == FOUND


def test_other_versions_are_other_entries(store: FootprintStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.keep_fact("rates", {"op_s": 1.0})
    monkeypatch.setattr(store_module, "stack_versions", lambda: {"torch": "0"})
    assert store.find(CONFIG, Recipe(), SHAPE) is None
    assert store.find_fact("rates") is None


def test_footprints_of_both_sides_of_a_window_live_together(tmp_path: Path) -> None:
    store = FootprintStore(tmp_path)
    below, beyond = replace(FOUND, longest=63), replace(FOUND, shortest=64, layers=9)
    store.keep(CONFIG, Recipe(), below)
    assert store.find(CONFIG, Recipe(), replace(SHAPE, seq=64)) is None
    store.keep(CONFIG, Recipe(), beyond)
    assert store.find(CONFIG, Recipe(), replace(SHAPE, seq=63)) == below
    assert store.find(CONFIG, Recipe(), replace(SHAPE, seq=64)) == beyond


def test_a_footprint_of_one_shape_is_found_for_that_alone(tmp_path: Path) -> None:
    store = FootprintStore(tmp_path)
    one, other = (replace(FOUND, shape=replace(SHAPE, batch=batch), layers=batch) for batch in (3, 4))
    store.keep(CONFIG, Recipe(), one)
    store.keep(CONFIG, Recipe(), other)
    assert store.find(CONFIG, Recipe(), SHAPE) is None
    assert store.find(CONFIG, Recipe(), replace(SHAPE, batch=3)) == one
    assert store.find(CONFIG, Recipe(), replace(SHAPE, batch=4)) == other


@pytest.mark.parametrize(
    "content",
    ["", "{", "null", "[]", "3", '{"phases": 3}', json.dumps({**FOUND.to_dict(), "lengths": 1}), "\udcff"],
)
def test_a_damaged_entry_is_as_good_as_none(store: FootprintStore, content: str) -> None:
    (entry,) = (store.folder / "footprints").rglob("*.json")
    entry.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert store.find(CONFIG, Recipe(), SHAPE) is None
    store.keep(CONFIG, Recipe(), FOUND)
    assert store.find(CONFIG, Recipe(), SHAPE) == FOUND


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    store = FootprintStore(tmp_path / "file")
    store.keep(CONFIG, Recipe(), FOUND)
    store.keep_fact("rates", {})
    assert store.find(CONFIG, Recipe(), SHAPE) is None
    assert store.find_fact("rates") is None


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    FootprintStore(tmp_path).keep(CONFIG, Recipe(), FOUND)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("content", ["[1]", "nonsense"])
def test_a_damaged_fact_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    store = FootprintStore(tmp_path)
    store.keep_fact("rates", {"op_s": 1.0})
    assert store.find_fact("rates") == {"op_s": 1.0}
    (entry,) = tmp_path.glob("rates*.json")
    entry.write_text(content, encoding="utf-8")
    assert store.find_fact("rates") is None


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "here"))
    assert cache_folder() == FootprintStore().folder == tmp_path / "here"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().name == "lplan"
