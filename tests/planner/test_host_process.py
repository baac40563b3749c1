"""The host's memory of a run on a GPU, against sums of what the libraries are known to read and copy."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import made_up
import pytest
from tiny_models import TINY_MODELS

from lplan.planner.documents import estimate_document
from lplan.planner.estimating import Situation, make_estimate, shape_of
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.trace import trace
from lplan.profiles.model import WeightFiles
from lplan.profiles.named import find_hardware
from lplan.profiles.units import GIB

CONFIG = {**TINY_MODELS["llama"], "vocab_size": 4000}
WIDTH, INNER = CONFIG["hidden_size"], CONFIG["intermediate_size"]
FILES = WeightFiles(format="safetensors", dtype="bfloat16", total_bytes=123_456_789)
RECIPE = Recipe(device="cuda", kernel="efficient", allocator="default", target_modules=("all-linear",))
LAZY, WHOLE = (438_632 - 322_040) * 1024, (2_056_600 - 326_880) * 1024
"""pytorch/pytorch#113326."""


def hosted(*, memory_bytes=64 * GIB, **knobs):
    recipe = replace(RECIPE, **knobs)
    here = Situation(
        model=replace(made_up.MODEL, config=CONFIG, weights=FILES),
        hardware=replace(find_hardware("a100-40gb"), memory_bytes=memory_bytes, reserve_bytes=0),
        budget=made_up.budget(30 * GIB), baseline=made_up.LIBRARIES, versions={},
    )  # fmt: skip
    return make_estimate(recipe, trace(CONFIG, recipe, shape_of(recipe)), here)


def by_phase(**knobs):
    return {phase.name: phase.host for phase in hosted(**knobs).phases}


def test_libraries_then_cuda_s_own_memory_lazily_or_whole():
    host = by_phase()
    libraries = made_up.LIBRARIES.anonymous_bytes + made_up.LIBRARIES.file_bytes
    assert host["import"].process_bytes == host["import"].process_high_bytes == libraries
    for name in ("load", "wrap", "steady step", "save"):
        assert host[name].process_bytes > libraries + LAZY
        assert host[name].process_high_bytes - host[name].process_bytes == WHOLE - LAZY
    assert all(found.pinned_bytes == found.pageable_bytes == 0 for found in host.values())


def test_weights_of_the_file_s_dtype_pass_through_its_pages_alone():
    host, made_here = by_phase(), by_phase(init="random")
    assert host["load"].file_bytes == FILES.total_bytes
    assert not any(found.file_bytes for name, found in host.items() if name != "load")
    assert made_here["load"].file_bytes == 0
    assert made_here["load"].process_bytes == host["load"].process_bytes


def test_converted_weights_are_copied_on_the_host_four_at_a_time():
    """The embeddings and three of the largest linears, in fp32."""
    more = by_phase(precision="fp32")["load"].process_bytes - by_phase()["load"].process_bytes
    assert more == 4 * (4000 * WIDTH + 3 * WIDTH * INNER)


def test_saving_copies_what_was_trained():
    """safetensors holds the copies of a file's tensors until it is written (safetensors.torch._flatten_as_ptr)."""
    estimate, lora = hosted(method="full"), by_phase()
    full = {phase.name: phase.host for phase in estimate.phases}
    buffers = (
        CONFIG["hidden_size"] // CONFIG["num_attention_heads"] * 4
    )  # rotary frequencies, which are not saved
    added = full["save"].process_bytes - lora["save"].process_bytes
    rank, layers = RECIPE.rank, CONFIG["num_hidden_layers"]
    kv = (
        WIDTH
        // CONFIG["num_attention_heads"]
        * CONFIG.get("num_key_value_heads", CONFIG["num_attention_heads"])
    )
    ends = 2 * (WIDTH + WIDTH) + 2 * (WIDTH + kv) + 2 * (WIDTH + INNER) + (INNER + WIDTH)
    adapters = 4 * rank * layers * ends
    assert added == pytest.approx(2 * estimate.parameters - adapters, abs=buffers)


def test_a_host_that_is_too_small_is_told():
    from rich.console import Console

    from lplan.report.estimate import estimate_view

    small = hosted(memory_bytes=2 * GIB)
    document = estimate_document(small)["host"]
    assert document["fits"] is False
    assert document["room_bytes"] == 2 * GIB
    assert document["required_bytes"] > WHOLE
    console = Console(width=100, record=True, file=StringIO())
    console.print(estimate_view(small))
    (line,) = (line for line in console.export_text().splitlines() if line.startswith("host memory:"))
    assert "misses by" in line
    assert estimate_document(hosted())["host"]["fits"] is True
