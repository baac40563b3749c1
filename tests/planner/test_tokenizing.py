"""What tokenizing holds: the rules of docs/memory-model.md, and a phase beside every run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import made_up
import pytest

from lplan.planner.constants import constants
from lplan.planner.documents import plan_document, read_plan
from lplan.planner.estimating import Situation, make_estimate
from lplan.planner.other_phases import with_other_phases
from lplan.planner.plan import Plan, Schedule
from lplan.planner.recipe import Recipe
from lplan.planner.texts import CHARACTERS, TOGETHER, Texts, tokens_together
from lplan.planner.tokenizing import supposed, tokenizing
from lplan.profiles.units import GIB, MIB

TEXTS = Texts(
    samples=100_000, messages=200_000, text_bytes=60_000_000, tokens=10_000_000, together=50_000, by_transformers=False
)  # fmt: skip
ENTRIES = 32_000


def expected(texts, entries=ENTRIES):
    return sum(tokenizing(texts, entries).components.values())


@pytest.mark.parametrize(
    ("more", "bytes_more"),
    [
        ({"samples": 200_000}, 100_000 * 216),
        ({"messages": 500_000}, 300_000 * 56),
        ({"text_bytes": 70_000_000}, 10_000_000),
        ({"tokens": 30_000_000}, 20_000_000 * 5),
    ],
)
def test_what_python_takes_of_a_data_set(more, bytes_more):
    assert expected(replace(TEXTS, **more)) - expected(TEXTS) == bytes_more


def test_a_tokenizer_is_heavier_while_it_is_read_than_afterwards_and_few_texts_hide_in_that():
    few = replace(TEXTS, samples=10, messages=20, text_bytes=2_000, tokens=1_000, together=1_000)
    assert expected(few, 256_000) == expected(replace(few, tokens=2_000), 256_000)
    assert (
        expected(few, 256_000) > expected(few, 128_000) + 128_000 * constants("data")["costs"]["entry_bytes"]
    )


def test_transformers_own_classes_bring_its_libraries():
    own = tokenizing(replace(TEXTS, by_transformers=True), ENTRIES)
    plain, unknown = (tokenizing(replace(TEXTS, by_transformers=known), ENTRIES) for known in (False, None))
    assert sum(own.components.values()) > sum(plain.components.values()) + 250 * MIB
    assert (unknown.components, unknown.low_bytes) == (plain.components, plain.low_bytes)
    assert unknown.high_bytes == own.high_bytes


@pytest.mark.parametrize(
    ("texts", "tokens", "characters", "together"),
    [
        (100, 5_000, 20_000, 5_000),
        (TOGETHER * 10, 5_000, 20_000, 500),
        (1_000, 1_000_000, CHARACTERS * 20, 50_000),
        (0, 0, 0, 0),
    ],
    ids=["all", "by number", "by characters", "none"],
)
def test_the_texts_that_are_tokenized_together(texts, tokens, characters, together):
    assert tokens_together(texts, tokens, characters) == together


def test_a_supposed_data_set_is_as_long_as_can_be():
    found = supposed(512, 2_000)
    assert (found.samples, found.tokens, found.by_transformers) == (2_000, 2_000 * 512, None)
    assert found.together * 4.5 == pytest.approx(CHARACTERS, rel=0.01)
    assert supposed(1_000_000, 3).together == 1_000_000
    assert supposed(16, 10).together == 160


def estimated(recipe=None, *, texts=None, memory_bytes=16 * GIB, budget_bytes=8 * GIB):
    recipe = recipe or Recipe()
    here = Situation(
        model=replace(made_up.MODEL, config={**made_up.MODEL.config, "vocab_size": ENTRIES}),
        hardware=replace(made_up.HARDWARE, memory_bytes=memory_bytes), budget=made_up.budget(budget_bytes),
        baseline=made_up.LIBRARIES, versions={}, texts=texts,
    )  # fmt: skip
    found = made_up.footprint(recipe)
    return with_other_phases(make_estimate(recipe, found, here), found, here)


def phase_of(estimate):
    return next(phase for phase in estimate.other_phases if phase.name == "tokenizing")


def test_every_estimate_has_the_phase_and_says_what_it_supposes():
    known, unknown = estimated(texts=TEXTS), estimated()
    for estimate in (known, unknown):
        phase = phase_of(estimate)
        assert phase.peak.expected_bytes == sum(phase.components.values())
        assert phase.peak.expected_bytes == phase.anonymous_bytes + phase.file_bytes
    assert phase_of(known).peak.expected_bytes == expected(TEXTS)
    assert phase_of(unknown).peak.expected_bytes == expected(supposed(Recipe().seq_len))
    assert [line for line in unknown.assumptions if line not in known.assumptions] == [
        "tokenizing: 10,000 sequences, all of the longest length"
    ]


def test_data_that_is_too_large_is_told_of():
    large = replace(TEXTS, samples=20_000_000, text_bytes=8 * GIB)
    assert not estimated(texts=large).holds(phase_of(estimated(texts=large)))
    assert estimated(texts=large).fits


def test_workers_tokenize_beside_the_loaded_model():
    alone, few, many = (phase_of(estimated(Recipe(tokenizing_workers=n))) for n in (0, 2, 6))
    wrap = next(phase for phase in estimated().phases if phase.name == "wrap")
    found = constants("data")["tokenizing_worker"]
    assert (
        few.peak.expected_bytes == wrap.peak.expected_bytes + found["shared_bytes"] + 2 * found["each_bytes"]
    )
    assert many.peak.expected_bytes - few.peak.expected_bytes == 4 * found["each_bytes"]
    assert few.peak.low_bytes < few.peak.expected_bytes - found["each_bytes"]
    assert few.file_bytes == wrap.file_bytes != alone.file_bytes


def test_plans_keep_what_they_were_made_for(tmp_path):
    estimate = estimated(texts=TEXTS)
    plan = Plan(recipe=Recipe(), schedule=Schedule(), estimate=estimate, decisions=(), time=None, data=None)
    (tmp_path / "plan.json").write_text(json.dumps(plan_document(plan)))
    assert read_plan(tmp_path / "plan.json").estimate.texts == TEXTS


_PREPARE = """
import json, sys
from dataclasses import asdict
import lplan.cli, lplan.commands.plan
from lplan.profiles.find import find_model
from lplan.trainer.prepare import prepare_data
from lplan.trainer.process_tree import usage_of
found = prepare_data("demo", find_model(sys.argv[1]), max_length=512)
print(json.dumps([asdict(found.texts), usage_of("self").high_water_bytes]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_real_process_stays_in_its_range(tmp_path):
    """Of this very tokenizer no row was fitted."""
    from lplan.trainer.data.readers import read_examples
    from lplan.trainer.data.tokenizer_training import train_tokenizer

    words = [m.content for example in read_examples("demo", task=None).train for m in example.messages]
    entries = len(train_tokenizer(words, 1_500, tmp_path))
    config = {
        **made_up.MODEL.config,
        "vocab_size": entries,
        "num_attention_heads": 4,
        "intermediate_size": 96,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-c", _PREPARE, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    texts, measured = json.loads(answer.splitlines()[-1])
    assert (texts["samples"], texts["messages"], texts["by_transformers"]) == (308, 308, False)
    found = tokenizing(Texts(**texts), entries)
    assert found.low_bytes <= measured <= found.high_bytes
