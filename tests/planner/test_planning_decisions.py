"""Every decision's words are true: against made-up footprints whose arithmetic is done here as well."""

from dataclasses import replace

import made_up
import pytest
from made_up import HARDWARE, task

from lplan.planner.deciding import decide, slower
from lplan.planner.plan import Schedule, TimeEstimate
from lplan.planner.planning import make_plan
from lplan.planner.pricer import Candidate
from lplan.planner.recipe import Recipe
from lplan.planner.search import EQUALLY_FAST, Found, search
from lplan.planner.setting import BF16_WITHOUT_INSTRUCTIONS, rates_of
from lplan.planner.settled import warmup_steps
from lplan.planner.tokens import TokenLengths
from lplan.profiles.machine import THIS_MACHINE
from lplan.profiles.units import GIB, MIB

RAGGED = TokenLengths(total=tuple(range(30, 130)), supervised=(12,) * 100)
FITTED = Recipe(seq_len=144, pad_to_multiple_of=16, length_buckets=7, supervised_len=12)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def no_torch(monkeypatch, cache):
    return made_up.install(monkeypatch, cache)


def decisions(task, plan=None):
    return {d.knob: d for d in (plan or make_plan(task, None)).decisions}


def rejected(decision):
    return {r.value: r.reason for r in decision.rejected}


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.006, "1 % slower"),
        (1.374, "37 % slower"),
        (1.994, "99 % slower"),
        (2.0, "2.0 × slower"),
        (2.41, "2.4 × slower"),
        (9.94, "9.9 × slower"),
        (13.45, "13 × slower"),
        (240.2, "240 × slower"),
    ],
)
def test_how_much_slower_in_words(ratio, words):
    assert slower(ratio) == words


def test_with_room_for_all_the_fastest_is_taken_and_says_so():
    found = decisions(task(64 * GIB, recipe=FITTED, lengths=RAGGED))
    assert found["precision"].value == "bf16"
    # bf16 wins in time and memory alike, so fp32 is not even priced.
    assert rejected(found["precision"]) == {}
    assert found["precision"].reason == "faster in this machine's own matrix products, as measured"
    assert found["checkpointing"].reason == "all activations fit, so nothing is computed twice"
    assert rejected(found["checkpointing"])["full"].endswith("% slower")
    assert found["loss"].value != "full"


def test_where_one_does_not_fit_the_choice_is_the_fastest_that_fits():
    # 2 x 144 tokens of 400 kB, 100 MB of weights and 340 MiB of libraries are about 0.57 GiB.
    tight = task(760 * MIB, recipe=FITTED, lengths=RAGGED, given=frozenset({"batch_size"}))
    found = decisions(tight)
    assert found["micro batch"].reason == "as asked"
    assert found["micro batch"].given
    reasons = {d.reason for d in found.values() if any(" of 0.74 GiB" in r.reason for r in d.rejected)}
    assert reasons == {"the fastest that fits"}


def test_what_does_not_fit_is_named_with_its_need():
    plan = make_plan(task(700 * MIB, recipe=FITTED, lengths=RAGGED), None)
    assert plan.estimate.fits
    needing = [r for d in plan.decisions for r in d.rejected if r.reason.startswith("needs ")]
    assert needing
    assert all(r.reason.endswith(" of 0.68 GiB") for r in needing)


def test_no_loss_is_praised_for_positions_that_all_carry_loss():
    every = TokenLengths(total=(64,) * 10, supervised=(64,) * 10)
    recipe = Recipe(seq_len=64, supervised_len=64, padding="none")
    assert "only positions" not in decisions(task(64 * GIB, recipe=recipe, lengths=every))["loss"].reason


def test_nothing_fits_and_nothing_pretends_to():
    plan = make_plan(task(400 * MIB, recipe=FITTED, lengths=RAGGED), None)
    assert not plan.estimate.fits
    floating = [d for d in plan.decisions if d.rejected]
    assert floating
    assert {d.reason for d in floating} == {"needs least memory, and still too much"}


def candidate(step_s, smaller=False, **knobs):
    start = Recipe(batch_size=1 if smaller else 2)
    priced = search(task(64 * GIB, recipe=start, given=frozenset(start.to_dict()))).chosen
    time = TimeEstimate(step_s=step_s, tokens_per_s=1.0, total_s=1.0, steps=1)
    return Candidate(replace(priced.recipe, batch_size=2, **knobs), priced.estimate, time)


@pytest.mark.parametrize(
    ("seconds", "smaller", "against", "reason"),
    [
        (1.0, False, "as fast", "as fast as any here, and needs least of those"),
        (1.0 + EQUALLY_FAST / 2, False, "as fast", "as fast as any here, and needs least of those"),
        (1.0 + EQUALLY_FAST / 2, True, "as fast", "as fast as any here; all would fit"),
        (1.08, True, "8 % slower", "all activations fit, so nothing is computed twice"),
    ],
)
def test_equally_fast_ones_are_not_called_slower(seconds, smaller, against, reason):
    chosen = candidate(1.0, checkpointing="none")
    other = candidate(seconds, checkpointing="full", smaller=smaller)
    found = {d.knob: d for d in decide(task(64 * GIB), Found((chosen, other), chosen, {}, task()))}
    assert rejected(found["checkpointing"]) == {"full": against}
    assert found["checkpointing"].reason == reason


def test_a_knob_without_alternatives():
    chosen = candidate(1.0)
    found = {d.knob: d for d in decide(task(64 * GIB), Found((chosen,), chosen, {}, task()))}
    assert found["checkpointing"].reason == "the only choice here"


def test_full_fine_tuning_has_no_adapters_to_explain():
    found = decisions(task(64 * GIB, recipe=Recipe(method="full"), lengths=RAGGED))
    assert not {"LoRA", "adapter dtype", "adapter input casting"} & found.keys()


@pytest.mark.parametrize("knobs", [{"adapter_dtype": "base"}, {"precision": "fp32"}])
def test_casting_is_not_explained_where_there_is_none(knobs):
    recipe = Recipe(**knobs)
    found = decisions(task(64 * GIB, recipe=recipe, given=frozenset(knobs), lengths=RAGGED))
    assert "nothing to cast" in found["adapter input casting"].reason


def test_padding_counts_the_lengths_it_saves():
    padding = decisions(task(64 * GIB, recipe=FITTED, lengths=RAGGED))["padding"]
    assert padding.value == "multiples of 16"
    assert padding.reason.endswith("every distinct length: 7 lengths instead of 100")


def test_sequences_of_one_length_are_not_padded():
    same = TokenLengths(total=(64,) * 9, supervised=(8,) * 9)
    recipe = Recipe(seq_len=64, supervised_len=8, padding="none")
    assert decisions(task(64 * GIB, recipe=recipe, lengths=same))["padding"].value == "none"


@pytest.mark.parametrize(
    ("truncated", "given", "end"),
    [
        (0, (), "nothing is cut"),
        (3, (), "3 of 100 sequences are cut to the model's context"),
        (3, ("seq_len",), "3 of 100 sequences are cut, as asked"),
    ],
)
def test_the_sequence_length_says_what_is_cut(truncated, given, end):
    lengths = replace(RAGGED, truncated=truncated)
    length = decisions(task(64 * GIB, recipe=FITTED, lengths=lengths, given=frozenset(given)))[
        "sequence length"
    ]
    assert length.value == "144"
    assert length.reason.startswith("the longest sequence has 129 tokens, padded to a multiple of 16")
    assert length.reason.endswith(end)


@pytest.mark.parametrize(
    ("given", "reason", "marked"),
    [
        ((), "usual", False),
        (("rank",), "rank as asked, the rest as usual", True),
        (("rank", "target_modules"), "rank and target modules as asked, the rest as usual", True),
        (("rank", "alpha", "dropout", "target_modules"), "as asked", True),
    ],
)
def test_the_adapters_say_which_part_was_asked_for(given, reason, marked):
    found = decisions(task(64 * GIB, recipe=FITTED, lengths=RAGGED, given=frozenset(given)))["LoRA"]
    assert (found.value, found.reason, found.given) == (
        "r 8, alpha 16, dropout 0.05, on attention",
        reason,
        marked,
    )


@pytest.mark.parametrize(
    ("steps", "given", "warmup"),
    [
        (1250, (), 50),
        (500, (), 50),
        (105, (), 10),
        (20, (), 2),
        (9, (), 0),
        (20, ("warmup_steps",), 50),
    ],
)
def test_warm_up_is_at_most_a_tenth_unless_asked_for(steps, given, warmup):
    assert warmup_steps(task(given=frozenset(given)), steps) == warmup


def test_the_plan_carries_the_warm_up_that_it_announces():
    # 100 sequences, 8 a step, are 13 steps an epoch.
    plan = make_plan(task(64 * GIB, recipe=FITTED, lengths=RAGGED), None)
    found = decisions(None, plan)
    assert (plan.time.steps, plan.schedule.warmup_steps) == (39, 3)
    assert (found["steps"].value, found["warm-up steps"].value) == ("39", "3")
    assert found["steps"].reason == "3 epochs of 100 sequences"
    assert "50 are usual" in found["warm-up steps"].reason


def test_steps_that_were_asked_for():
    schedule = Schedule(max_steps=7, learning_rate=1e-3)
    given = frozenset({"max_steps", "learning_rate"})
    found = decisions(task(64 * GIB, recipe=FITTED, lengths=RAGGED, schedule=schedule, given=given))
    assert (found["steps"].value, found["steps"].reason) == ("7", "as asked")
    assert (found["learning rate"].value, found["learning rate"].given) == ("0.001, cosine", True)


def test_without_data_nothing_is_said_of_steps():
    found = decisions(task(64 * GIB))
    assert not {"steps", "learning rate", "warm-up steps", "padding"} & found.keys()
    assert found["sequence length"].reason == "usual"


def test_threads_are_those_of_the_machine_meant():
    recipe = Recipe(threads=2)
    here = replace(HARDWARE, name=THIS_MACHINE)
    assert decisions(task(64 * GIB, recipe=recipe))["threads"].reason.endswith("of cpu-made-up")
    found = decisions(task(64 * GIB, recipe=recipe, hardware=here))["threads"]
    assert found.reason == "one for each usable core"


def situation_on(hardware):
    return task(hardware=hardware).situation


def test_a_named_machine_without_bf16_is_not_given_this_ones_speed():
    plain = replace(HARDWARE, cpu_features=("avx2",))
    slow = rates_of(situation_on(plain), 2)["pinned"].matmul_flop_per_s
    assert slow["bfloat16"] == {512: {128: BF16_WITHOUT_INSTRUCTIONS[512] * 1e11}}
    base = task(64 * GIB, recipe=FITTED, lengths=RAGGED, hardware=plain)
    found = decisions(replace(base, rates=rates_of(situation_on(plain), 2)))["precision"]
    assert (found.value, found.reason) == ("fp32", "cpu-made-up has no bf16 instructions")


def test_this_machine_is_taken_as_measured():
    here = replace(HARDWARE, name=THIS_MACHINE, cpu_features=())
    assert rates_of(situation_on(here), 2)["pinned"] == made_up.rates()


def test_every_decision_has_a_reason():
    for budget in (400 * MIB, 700 * MIB, 64 * GIB):
        for recipe in (FITTED, replace(FITTED, method="full")):
            chosen = make_plan(task(budget, recipe=recipe, lengths=RAGGED), None)
            assert all(d.reason and d.value for d in chosen.decisions)
            names = [d.knob for d in chosen.decisions]
            assert len(names) == len(set(names))
