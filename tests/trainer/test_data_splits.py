"""What is held out for validation."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lplan.trainer.data.examples import Example, Message
from lplan.trainer.data.splits import hold_out


def examples_of(labels):
    return [
        Example(messages=(Message(role="assistant", content=str(i)),), label=label)
        for i, label in enumerate(labels)
    ]


labels = st.lists(st.sampled_from([None, "a", "b", "c", "d"]), max_size=300)


@given(labels=labels, seed=st.integers(0, 99))
def test_nothing_is_lost_or_doubled_and_order_is_kept(labels, seed):
    examples = examples_of(labels)
    train, validation = hold_out(examples, seed=seed)
    position = {e: i for i, e in enumerate(examples)}
    assert sorted((*train, *validation), key=position.__getitem__) == examples
    assert list(train) == sorted(train, key=position.__getitem__)


@given(labels=labels, seed=st.integers(0, 99))
def test_every_label_gives_its_tenth_to_within_one(labels, seed):
    _, validation = hold_out(examples_of(labels), seed=seed)
    held = Counter(e.label for e in validation)
    for label, count in Counter(labels).items():
        assert abs(held[label] - count / 10) <= 1
        assert held[label] < count or label is None


def test_the_share_is_a_tenth_even_when_no_label_has_ten():
    _, validation = hold_out(examples_of([f"label {i % 100}" for i in range(400)]), seed=1)
    assert len(validation) == 40


def test_a_seed_gives_one_split_and_another_seed_another():
    examples = examples_of(["a"] * 50)
    assert hold_out(examples, seed=1) == hold_out(examples, seed=1)
    assert hold_out(examples, seed=1) != hold_out(examples, seed=2)
