"""The task banking77 and its embedded queries."""

import re
from collections import Counter

import pytest

from lplan.profiles.errors import UsageError
from lplan.trainer.data.readers import read_examples
from lplan.trainer.data.tasks import TASKS, find_task

BANKING77 = find_task("banking77")


def test_every_label_of_banking77_has_a_response_of_its_own():
    assert len(BANKING77.labels) == 77  # Casanueva et al. 2020: 77 intents
    assert len(set(BANKING77.responses.values())) == 77
    assert {"reverted_card_payment?", "Refund_not_showing_up"} <= set(
        BANKING77.labels
    )  # spelled as published


@pytest.mark.parametrize("label", BANKING77.labels)
def test_a_response_is_one_to_three_sentences(label):
    assert 1 <= len(re.findall(r"[.!?](?:\s|$)", BANKING77.responses[label])) <= 3


def test_defaults_are_the_founding_documents():
    d = BANKING77.defaults
    assert (d.rank, d.alpha, d.dropout, d.target_modules) == (8, 16, 0.05, ("attention",))
    assert (d.epochs, d.batch_size, d.accumulation) == (3, 2, 4)
    assert (d.learning_rate, d.warmup_steps, d.scheduler) == (2e-4, 50, "cosine")


@pytest.mark.parametrize("name", [None, "none"])
def test_the_generic_task_has_no_labels(name):
    assert find_task(name).labels == ()
    assert find_task(name).system_prompt is None


def test_every_listed_task_is_found():
    assert [find_task(name).name for name in TASKS] == list(TASKS)


@pytest.mark.parametrize(
    ("name", "hint"), [("banking", "banking77"), ("xyz", "known tasks: banking77, banking77-intents, none")]
)
def test_an_unknown_task_is_a_usage_error_that_names_known_ones(name, hint):
    with pytest.raises(UsageError, match=repr(name)) as caught:
        find_task(name)
    assert hint in caught.value.hint


@pytest.fixture(scope="module")
def queries():
    demo = read_examples("demo", task=None)
    return sorted(demo.train + demo.validation, key=lambda e: e.messages[1].content)


def test_the_demo_has_at_least_three_queries_for_each_intent(queries):
    per_intent = Counter(e.label for e in queries)
    assert per_intent.keys() == set(BANKING77.labels)
    assert min(per_intent.values()) >= 3


def test_no_query_of_the_demo_comes_twice(queries):
    texts = [" ".join(re.findall(r"[a-z0-9]+", e.messages[1].content.lower())) for e in queries]
    assert len(set(texts)) == len(texts)


def test_a_prefix_of_the_demo_covers_many_intents():
    prefix = read_examples("demo", task=None).train[:60]
    assert len({e.label for e in prefix}) >= 50


def test_a_demo_dialogue_is_prompt_query_and_the_labels_response():
    example = read_examples("demo", task="banking77").train[0]
    assert [m.role for m in example.messages] == ["system", "user", "assistant"]
    assert example.messages[0].content == BANKING77.system_prompt
    assert example.messages[2].content == BANKING77.responses[example.label]
