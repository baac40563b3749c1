"""Scored answers, their intervals, and a run's evaluation, on models small enough to compute every answer plainly."""

import math

import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lplan.planner.recipe import Recipe
from lplan.trainer.evaluation.generation import generate
from lplan.trainer.evaluation.scoring import Prompts, in_batches, likelihoods, most_likely
from lplan.trainer.evaluation.statistics import mcnemar, paired_difference, wilson
from lplan.trainer.evaluation.trie import radix_trie

END = 2
ANSWERS = tuple(
    (*tokens, END)
    for tokens in ((5,), (5, 6), (5, 6, 7, 8), (9, 10, 11), (9, 10, 12), (13,), (14, 15, 16, 17))
)


def tiny(name, **changes):
    torch.manual_seed(3)
    model = tiny_models.make_model({**tiny_models.TINY_MODELS[name], **changes}, Recipe(precision="fp32"))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()


def plain_likelihood(model, prompt, answer):
    """The definition: the sum of the log-likelihoods of the answer's tokens, from one whole forward pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].float().log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))


# gemma2 keeps a window and falcon has no keys of its own for every head: one goes without, one with kept keys
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "falcon"])
def test_likelihoods_and_the_likeliest_are_those_of_whole_passes(name):
    model = tiny(name)
    prompts = [(1, 20, 30, 40), (1, 41, 31, 21), (1, 7, 7, 7)]
    with torch.no_grad():
        found = most_likely(Prompts(model, prompts), radix_trie(ANSWERS), rows=8)
    for prompt, (label, value) in zip(prompts, found, strict=True):
        every = [plain_likelihood(model, prompt, answer) for answer in ANSWERS]
        with torch.no_grad():
            assert likelihoods(model, prompt, ANSWERS, rows=3) == pytest.approx(every, abs=1e-3)
        assert label == max(range(len(every)), key=every.__getitem__)
        assert value == pytest.approx(max(every), abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.sets(st.lists(st.integers(3, 6), min_size=1, max_size=5).map(tuple), min_size=1, max_size=30))
def test_a_trie_holds_every_answer_once_and_every_token_once(answers):
    ended = [(*tokens, END) for tokens in sorted(answers)]
    found, tokens = {}, 0
    nodes = [radix_trie(ended)]
    while nodes:
        node = nodes.pop()
        tokens += len(node.edge)
        if node.answer is not None:
            found[node.answer] = node.path
        assert node.answer is not None or len(node.children) != 1 or not node.edge
        nodes += node.children
    assert [found[number] for number in range(len(ended))] == ended
    assert tokens == len({answer[:end] for answer in ended for end in range(1, len(answer) + 1)})


def test_answers_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="begins another"):
        radix_trie([(5, 6), (5, 6, 7)])


def test_batches_hold_prompts_of_one_length_and_stop_when_time_is_up():
    lengths = [3, 4, 3, 3, 4, 5, 3, 3]
    batches = list(in_batches(lengths, rows=2, block=4, until=lambda: True))
    assert sorted(index for batch in batches for index in batch) == list(range(8))
    assert all(len({lengths[index] for index in batch}) == 1 and len(batch) <= 2 for batch in batches)
    assert [sorted(batch) for batch in in_batches(lengths, 2, 4, lambda: False)] == [[0, 2]]


def test_wilson_is_the_published_interval():
    # Newcombe 1998, Statistics in Medicine 17: 857-872, table I, method 3 (score): 81 of 263, 15 of 148, 0 of 20
    for right, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson(right, of) == pytest.approx((low, high), abs=5e-5)


def test_mcnemar_is_the_binomial_test_of_the_changes():
    # 1 lost, 5 gained: 2 * (C(6,0) + C(6,1)) / 2^6
    before = [True] + [False] * 5 + [True] * 4
    after = [False] + [True] * 5 + [True] * 4
    assert mcnemar(before, after) == pytest.approx(2 * 7 / 64)
    assert mcnemar(after, after) == 1.0


def test_a_paired_difference_covers_the_normal_approximation():
    before, after = [0.0] * 200, [1.0] * 100 + [0.0] * 100
    low, high = paired_difference(before, after)
    half = 1.96 * math.sqrt(0.25 / 200)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.015)


def test_generation_takes_the_likeliest_token_until_the_end_token():
    model = tiny("llama")
    prompt, tokens = (1, 20, 30), []
    with torch.no_grad():
        for _ in range(6):
            tokens.append(int(model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, -1].argmax()))
    assert list(generate(model, prompt, most=6, stop=frozenset())) == tokens
    assert (
        list(generate(model, prompt, most=6, stop=frozenset({tokens[3]})))
        == tokens[: tokens.index(tokens[3])]
    )


def test_drawn_tokens_are_the_same_for_the_same_seed():
    model = tiny("llama")
    one, two, three = (
        list(generate(model, (1, 2), most=12, stop=frozenset(), temperature=2.0, seed=seed))
        for seed in (4, 4, 5)
    )
    assert one == two != three
