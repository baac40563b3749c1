"""The tracing process and the store around it."""

import json

import pytest

from lplan.planner import store as store_module
from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Recipe
from lplan.planner.store import FootprintStore
from lplan.planner.tracer import baseline, footprint, footprints
from lplan.profiles.errors import LplanError, UsageError
from lplan.profiles.model import ModelProfile, WeightFiles

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 5,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 2048,
}  # fmt: skip
SHAPE = Shape(batch=2, seq=32, supervised=64, chunk=64)


def model(**changes):
    config = {**CONFIG, **changes}
    weights = WeightFiles(format="none", dtype="bfloat16", total_bytes=0)
    return ModelProfile(
        id="tiny", alias=None, model_type="llama", architecture="LlamaForCausalLM", config=config,
        parameters=None, weights=weights, location=None, source="test",
    )  # fmt: skip


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """One real tracing process for all tests: two recipes that work, one the model refuses."""
    store = FootprintStore(tmp_path_factory.mktemp("cache"))
    requests = [(Recipe(), SHAPE), (Recipe(rank=65), SHAPE), (Recipe(batch_size=8), SHAPE)]
    return store, footprints(model(), requests, store=store)


def test_one_process_answers_all_and_refuses_by_name(traced):
    _, (first, refused, same_graph) = traced
    assert isinstance(refused, UsageError)
    assert refused.hint
    assert first == same_graph
    assert first.architecture == "LlamaForCausalLM"


def test_what_was_traced_is_found_again_without_a_process(traced, monkeypatch):
    store, (first, *_) = traced
    monkeypatch.setattr("lplan.planner.tracing_process.subprocess.Popen", None)
    assert footprint(model(), Recipe(alpha=32, threads=4), SHAPE, store) == first


def test_the_process_leaves_an_import_baseline(traced):
    store, _ = traced
    found = baseline(store)
    # Importing torch, transformers and peft: 343 MiB, of which 83 are file-backed (facts.md); other versions differ.
    assert 150 * 2**20 < found.anonymous_bytes < 600 * 2**20
    assert 40 * 2**20 < found.file_bytes < 300 * 2**20


@pytest.mark.parametrize("knobs", [{"rank": 4}, {"precision": "fp32"}, {"checkpointing": "full"}])
def test_another_graph_is_another_entry(traced, knobs):
    store, _ = traced
    assert store.find(CONFIG, Recipe(), SHAPE) is not None
    assert store.find(CONFIG, Recipe(**knobs), SHAPE) is None


def test_other_versions_and_other_models_are_other_entries(traced, monkeypatch):
    store, _ = traced
    assert store.find({**CONFIG, "vocab_size": 321}, Recipe(), SHAPE) is None
    monkeypatch.setattr(store_module, "stack_versions", lambda: {"torch": "0"})
    assert store.find(CONFIG, Recipe(), SHAPE) is None


def test_a_damaged_entry_is_as_good_as_none(traced, tmp_path):
    _, (first, *_) = traced
    store = FootprintStore(tmp_path)
    store.keep(CONFIG, Recipe(), first)
    (entry,) = tmp_path.rglob("*.json")
    for text in ("", "{", "[]", json.dumps({"phases": 3})):
        entry.write_text(text)
        assert store.find(CONFIG, Recipe(), SHAPE) is None


def test_a_folder_that_cannot_be_made_is_no_error(traced, tmp_path):
    _, (first, *_) = traced
    (tmp_path / "file").write_text("")
    store = FootprintStore(tmp_path / "file" / "below")
    store.keep(CONFIG, Recipe(), first)
    assert store.find(CONFIG, Recipe(), SHAPE) is None


def test_a_configuration_that_transformers_refuses_is_one_line(tmp_path):
    with pytest.raises(LplanError) as error:
        footprint(model(num_attention_heads=5), Recipe(), SHAPE, FootprintStore(tmp_path))
    assert "\n" not in str(error.value)
