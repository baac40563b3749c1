"""What `lplan data` counts, against counting by hand and against what training really gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lplan.planner.plan import Schedule
from lplan.planner.recipe import Recipe
from lplan.planner.request import Request, fit_to_data
from lplan.planner.tokens import TokenLengths, round_up
from lplan.trainer.data.batching import LengthGroupedBatches
from lplan.trainer.data.encoding import encode_all
from lplan.trainer.data.examples import Example, Message
from lplan.trainer.data.readers import read_examples
from lplan.trainer.data.repeats import find_repeats, normalised
from lplan.trainer.data.survey import histogram, percentiles, survey
from lplan.trainer.data.tokenizer import LightTokenizer
from lplan.trainer.data.tokenizer_training import train_tokenizer
from lplan.trainer.data.waste import packed_rows, padding_waste, worst_batch

many_lengths = st.lists(st.integers(1, 300), min_size=1, max_size=200)
WITHOUT_ENDS = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def ask(request: str, answer: str) -> Example:
    return Example(
        messages=(Message(role="user", content=request), Message(role="assistant", content=answer))
    )


@pytest.fixture(scope="module")
def demo():
    return read_examples("demo", task=None).train[:60]


@pytest.fixture(scope="module")
def tokenizer(demo, tmp_path_factory):
    return train_tokenizer(
        [m.content for e in demo for m in e.messages], 500, tmp_path_factory.mktemp("tokenizer")
    )


def test_what_a_length_cuts_is_what_encoding_at_that_length_loses(demo, tokenizer):
    seen = survey(demo, tokenizer, None)
    whole = encode_all(demo, tokenizer)
    assert len(seen.cuts) > 2
    for cut in seen.cuts:
        shorter = encode_all(demo, tokenizer, max_length=cut.seq_len)
        assert (cut.samples, cut.emptied) == (
            sum(len(one.input_ids) > cut.seq_len for one in whole),
            shorter.dropped,
        )
        assert cut.answer_tokens == sum(whole.marks) - sum(shorter.marks)
    assert seen.cuts[0].answer_tokens > 0


def test_lengths_are_those_that_training_gets(demo, tokenizer):
    encoded = encode_all(demo, tokenizer, max_length=96)
    seen = survey(demo, tokenizer, 96)
    assert seen.lengths.total == tuple(len(one.input_ids) for one in encoded)
    assert sum(seen.lengths.supervised) == sum(encoded.marks)
    assert (seen.lengths.truncated, seen.masked) == (encoded.truncated, encoded.dropped)


def test_an_answer_without_an_end_token_is_told(tokenizer):
    backend = tokenizer._backend
    endless = LightTokenizer(backend, special_tokens={}, chat_template=WITHOUT_ENDS)
    ended = LightTokenizer(backend, special_tokens={"eos_token": "</s>"}, chat_template=WITHOUT_ENDS)
    assert survey([ask("How?", "So.")], endless, None).ends_untrained == 1
    assert survey([ask("How?", "So.")], ended, None).ends_untrained == 0


def test_percentiles_by_nearest_rank():
    # Of 1 to 200, n percent are at most 2n (nearest-rank definition)
    assert percentiles(range(1, 201)) == {50: 100, 90: 180, 95: 190, 99: 198, 100: 200}
    assert set(percentiles([7]).values()) == {7}


@given(lengths=many_lengths)
def test_a_histogram_counts_every_sample_once(lengths):
    bins = histogram(lengths)
    assert len(bins) <= 13
    for each in bins:
        assert each.samples == sum(each.first <= length <= each.last for length in lengths)
    assert sum(each.samples for each in bins) == len(lengths)


def test_a_few_very_long_ones_share_a_bin():
    bins = histogram([*range(20, 120)] * 10 + [5000])
    assert (bins[-1].last, bins[-1].samples) == (5000, 1)
    assert len(bins) > 5


@given(lengths=many_lengths, batch_size=st.integers(1, 8), epoch=st.integers(0, 3))
def test_plans_are_made_for_the_worst_batch_that_occurs(lengths, batch_size, epoch):
    known = TokenLengths(total=tuple(lengths), supervised=tuple(n // 2 + 1 for n in lengths))
    recipe = fit_to_data(Request(Recipe(batch_size=batch_size), Schedule(), frozenset()), known).recipe
    worst = worst_batch(known, batch_size)
    assert (worst.rows, worst.seq_len) == (min(batch_size, len(lengths)), recipe.seq_len)
    assert worst.supervised <= worst.rows * recipe.supervised_len
    for batch in LengthGroupedBatches(lengths, batch_size, seed=42, epoch=epoch):
        assert round_up(max(lengths[i] for i in batch), recipe.pad_to_multiple_of) <= worst.seq_len
        assert sum(known.supervised[i] for i in batch) <= batch_size * recipe.supervised_len


def test_padding_waste_by_hand():
    # Three of 10 and one of 30, in pairs: 30 x 2 + 10 x 2 computed for 60; a row of 60 holds them all.
    lengths = TokenLengths(total=(10, 30, 10, 10), supervised=(1, 1, 1, 1))
    waste = padding_waste(lengths, 2)
    assert waste.shuffled == pytest.approx(1 - 60 / 80)
    assert waste.grouped == pytest.approx(1 - 60 / 96)  # padded to 32 and 16
    assert waste.packed == 0


@given(lengths=many_lengths, room=st.integers(0, 300))
def test_packing_holds_everything_and_wastes_less_than_half(lengths, room):
    row = max(lengths) + room
    rows = packed_rows(lengths, row)
    assert -(-sum(lengths) // row) <= rows <= len(lengths)
    if rows > 1:  # no two rows could be put into one, so each pair holds more than a row
        assert sum(lengths) > row * (rows // 2)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("Where's my CARD?", "where s my card", True), ("ｃａｒｄ no. 1", "card no 1", True), ("card 1", "card 2", False)],
)  # fmt: skip
def test_normalised(one, other, same):
    assert (normalised(one) == normalised(other)) is same


def test_repeats_contradictions_and_leaks():
    train = [
        ask("a card", "yes"),
        ask("a card", "yes"),
        ask("A card!", "Yes"),
        ask("a car", "no"),
        ask("A CAR", "yes"),
    ]
    found = find_repeats(
        train, {"validation": [ask("a bus", "no")], "test": [ask("a  card?", "?"), ask("x", "y")]}
    )
    assert (found.exact, found.normalised, found.contradicting) == (1, 1, 1)
    assert found.leaked == {"validation": 0, "test": 1}
