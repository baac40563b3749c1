"""Token ids and labels of dialogues, under the shapes that chat templates really have."""

import pytest
from tokenizers import AddedToken, Tokenizer

from lplan.profiles.errors import LplanError, UsageError
from lplan.trainer.data.encoding import IGNORED, encode, encode_all, token_lengths
from lplan.trainer.data.examples import Example, Message
from lplan.trainer.data.readers import read_examples
from lplan.trainer.data.tokenizer import LightTokenizer
from lplan.trainer.data.tokenizer_training import train_tokenizer

MARKERS = [
    "<|im_start|>",
    "<|im_end|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
]

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
    "{{ m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}{% endfor %}"
)
PHI_3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# As Qwen 3's: the last answer is preceded by an empty thought, those before are not.
THOUGHT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As DeepSeek R1's: the generation prompt goes on where a finished answer does not.
OPENED = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|user|>' + m['content'] }}"
    "{% else %}{{ '<|assistant|>' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)
UNENDED = (
    "{% for m in messages %}{{ ('### Response:\n' if m['role'] == 'assistant' else '### Instruction:\n') }}"
    "{{ m['content'] + '\n\n' }}{% endfor %}{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    demo = read_examples("demo", task=None)
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([m.content for e in demo.train for m in e.messages[1:]], 600, folder)
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in MARKERS])
    return backend


@pytest.fixture
def tokenizer_with(backend):
    def make(template):
        tokens = {"bos_token": "<s>", "eos_token": "</s>"}
        return LightTokenizer(backend, special_tokens=tokens, chat_template=template)

    return make


def dialogue(*turns, system=None):
    roles = ("user", "assistant") * len(turns)
    messages = [Message(role=r, content=c) for r, c in zip(roles, turns, strict=False)]
    first = [Message(role="system", content=system)] if system else []
    return Example(messages=(*first, *messages))


def parts(tokenizer, encoded):
    """The text as [masked, supervised, masked, ...] runs."""
    runs, kind = [[]], False
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        assert label in (token, IGNORED)
        if (label != IGNORED) != kind:
            kind = not kind
            runs.append([])
        runs[-1].append(token)
    return [tokenizer.decode(run) for run in runs]


ONE = dialogue("my card?", "It is on its way.", system="Be kind.")
TWO = dialogue("my card?", "It is on its way.", "when?", "Soon.")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            CHATML,
            [
                "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nmy card?<|im_end|>\n<|im_start|>assistant\n",
                "It is on its way.<|im_end|>",
            ],
        ),
        (
            GEMMA,
            [
                "<s><start_of_turn>user\nBe kind.\n\nmy card?<end_of_turn>\n<start_of_turn>model\n",
                "It is on its way.<end_of_turn>",
            ],
        ),
        (
            ZEPHYR,
            [
                "<|system|>\nBe kind.</s>\n<|user|>\nmy card?</s>\n<|assistant|>",
                "\nIt is on its way.</s>",
            ],
        ),
        (
            PHI_3,
            [
                "<|system|>\nBe kind.<|end|>\n<|user|>\nmy card?<|end|>\n<|assistant|>\n",
                "It is on its way.<|end|>",
            ],
        ),
        (
            None,  # Llama 2's format, as its authors describe it
            ["<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nmy card? [/INST]", " It is on its way.</s>"],
        ),
    ],
    ids=["chatml", "gemma", "zephyr", "phi-3", "llama-2"],
)
def test_loss_is_on_the_answer_and_its_end_token_alone(tokenizer_with, template, expected):
    tokenizer = tokenizer_with(template)
    assert parts(tokenizer, encode(ONE, tokenizer)) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            CHATML,
            [
                "<|im_start|>user\nmy card?<|im_end|>\n<|im_start|>assistant\n",
                "It is on its way.<|im_end|>",
                "\n<|im_start|>user\nwhen?<|im_end|>\n<|im_start|>assistant\n",
                "Soon.<|im_end|>",
            ],
        ),
        (
            THOUGHT,
            [
                "<|im_start|>user\nmy card?<|im_end|>\n<|im_start|>assistant\n",
                "It is on its way.<|im_end|>",
                "\n<|im_start|>user\nwhen?<|im_end|>\n<|im_start|>assistant\n",
                "<think>\n\n</think>\n\nSoon.<|im_end|>",
            ],
        ),
        (
            OPENED,
            [
                "<|user|>my card?<|assistant|>",
                "It is on its way.</s>",
                "<|user|>when?<|assistant|>",
                "Soon.</s>",
            ],
        ),
        (
            UNENDED,
            [
                "### Instruction:\nmy card?\n\n### Response:\n",
                "It is on its way.",
                "\n\n### Instruction:\nwhen?\n\n### Response:\n",
                "Soon.</s>",
            ],
        ),
        (
            None,
            [
                "<s>[INST] my card? [/INST]",
                " It is on its way.</s>",
                "<s>[INST] when? [/INST]",
                " Soon.</s>",
            ],
        ),
    ],
    ids=["chatml", "thought", "opened", "unended", "llama-2"],
)
def test_every_answer_of_a_dialogue_carries_loss(tokenizer_with, template, expected):
    tokenizer = tokenizer_with(template)
    assert parts(tokenizer, encode(TWO, tokenizer)) == expected


def test_the_prompt_is_what_generation_starts_from(tokenizer_with):
    tokenizer = tokenizer_with(CHATML)
    encoded = encode(ONE, tokenizer)
    messages = [{"role": m.role, "content": m.content} for m in ONE.messages[:-1]]
    prompt = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
    supervised_from = next(i for i, label in enumerate(encoded.labels) if label != IGNORED)
    assert list(encoded.input_ids[:supervised_from]) == prompt


def test_the_begin_token_is_not_doubled(tokenizer_with):
    ids = encode(ONE, tokenizer_with(None)).input_ids
    assert ids.count(1) == 1
    assert ids.count(2) == 1


@pytest.mark.parametrize("answer", ["<think>", "assistant", "im_end", "a", "\n padded \n", "日本語 🏦 Grüße"])
def test_answers_that_look_like_markup_or_have_odd_characters(tokenizer_with, answer):
    tokenizer = tokenizer_with(CHATML)
    *_, supervised = parts(tokenizer, encode(dialogue("q", answer), tokenizer))
    assert supervised == answer + "<|im_end|>"


@pytest.mark.parametrize("answer", ["think", "k", "</think>"])
def test_answers_that_look_like_the_thought_before_them(tokenizer_with, answer):
    tokenizer = tokenizer_with(THOUGHT)
    *_, supervised = parts(tokenizer, encode(dialogue("q", answer), tokenizer))
    assert supervised == f"<think>\n\n</think>\n\n{answer}<|im_end|>"


def test_a_token_that_reaches_from_the_prompt_into_the_answer_carries_loss(tokenizer_with):
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + ' ' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    tokenizer = tokenizer_with(template)
    assert parts(tokenizer, encode(dialogue("my", "card"), tokenizer)) == ["user: my assistant:", " card</s>"]


def test_the_format_can_be_asked_for(tokenizer_with):
    tokenizer = tokenizer_with(CHATML)
    assert tokenizer.decode(encode(ONE, tokenizer, template="llama-2").input_ids).startswith(
        "<s>[INST] <<SYS>>"
    )
    with pytest.raises(UsageError, match="no chat template"):
        encode(ONE, tokenizer_with(None), template="chat")


def test_a_template_that_refuses_the_dialogue_is_one_line_and_a_hint(tokenizer_with):
    with pytest.raises(LplanError, match="refuses a dialogue: alternate!") as caught:
        encode(TWO, tokenizer_with("{{ raise_exception('alternate!') }}"))
    assert "llama-2" in caught.value.hint


LONG = dialogue("one two three " * 60 + "the end", "It is on its way.", system="Be kind.")


def test_a_long_request_loses_its_beginning_and_nothing_else(tokenizer_with):
    tokenizer = tokenizer_with(CHATML)
    whole, cut = encode(LONG, tokenizer), encode(LONG, tokenizer, max_length=60)
    assert (len(cut.input_ids), cut.truncated, whole.truncated) == (60, True, False)
    assert cut.supervised == whole.supervised
    text = tokenizer.decode(cut.input_ids)
    assert text.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n")
    assert text.endswith("the end<|im_end|>\n<|im_start|>assistant\nIt is on its way.<|im_end|>")


def test_the_oldest_request_goes_first(tokenizer_with):
    tokenizer = tokenizer_with(CHATML)
    example = dialogue("first " * 30, "one", "second " * 30, "two")
    whole = encode(example, tokenizer)
    cut = encode(example, tokenizer, max_length=len(whole.input_ids) - 20)
    before, after = tokenizer.decode(whole.input_ids), tokenizer.decode(cut.input_ids)
    assert after.count("second") == before.count("second") == 30
    assert after.count("first") < 30


def test_an_answer_that_is_too_long_by_itself_loses_its_end(tokenizer_with):
    tokenizer = tokenizer_with(CHATML)
    example = dialogue("q", "word " * 100)
    whole, cut = encode(example, tokenizer), encode(example, tokenizer, max_length=50)
    assert len(cut.input_ids) == 50
    assert cut.truncated
    assert tokenizer.decode(cut.input_ids).startswith(
        "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\nword"
    )
    assert whole.input_ids[-1] not in [label for label in cut.labels if label != IGNORED]


def test_a_length_that_just_suffices_cuts_nothing(tokenizer_with):
    tokenizer = tokenizer_with(CHATML)
    whole = encode(LONG, tokenizer)
    assert encode(LONG, tokenizer, max_length=len(whole.input_ids)) == whole


@pytest.mark.parametrize(("characters", "most_texts"), [(300_000, 4), (20, 512)])
def test_texts_are_tokenised_together_as_long_as_they_are_short(tokenizer_with, characters, most_texts):
    """A million characters or 512 texts: what the tokenizer says of all of them exists at once."""
    tokenizer, counts = tokenizer_with(CHATML), []

    class Watched:
        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, text, **options):
            counts.append(len(text))
            return tokenizer(text, **options)

    examples = [dialogue("card " * (characters // 5), f"number {i}") for i in range(most_texts + 1)]
    together = encode_all(examples, Watched())
    assert counts == [most_texts, 1]
    assert list(together) == [encode(example, tokenizer) for example in examples]


def test_a_request_of_100k_tokens_is_encoded_and_cut(tokenizer_with):
    tokenizer = tokenizer_with(CHATML)
    example = dialogue("card, " * 60_000, "It is on its way.")
    assert len(encode(example, tokenizer).input_ids) > 100_000
    assert len(encode(example, tokenizer, max_length=512).input_ids) == 512


def test_a_set_equals_its_examples_one_by_one(tokenizer_with):
    tokenizer = tokenizer_with(CHATML)
    examples = [ONE, TWO, LONG, *read_examples("demo", task=None).train] * 2
    encoded = encode_all(examples, tokenizer, max_length=200)
    alone = [encode(example, tokenizer, max_length=200) for example in examples]
    assert [(e.input_ids, e.labels) for e in encoded] == [(e.input_ids, e.labels) for e in alone]
    assert encoded.truncated == sum(e.truncated for e in alone) > 0


def test_what_was_read_is_counted_before_anything_is_cut(tokenizer_with):
    tokenizer = tokenizer_with(CHATML)
    short, whole = (encode_all([ONE, LONG, TWO], tokenizer, max_length=n) for n in (60, None))
    assert short.read_tokens == whole.read_tokens == len(whole.ids) > len(short.ids)
    assert short.read_characters == whole.read_characters > whole.read_tokens


def test_lengths_count_every_token_and_every_label(tokenizer_with):
    tokenizer = tokenizer_with(CHATML)
    encoded = encode_all([ONE, LONG, TWO], tokenizer, max_length=60)
    lengths = token_lengths(encoded)
    assert lengths.total == tuple(len(e.input_ids) for e in encoded)
    assert lengths.supervised == tuple(e.supervised for e in encoded)
    assert lengths.truncated == 1
    assert lengths.longest == 60


def test_examples_that_cutting_leaves_without_loss_are_dropped(tokenizer_with):
    tokenizer = tokenizer_with(CHATML)
    hopeless = dialogue("q", "a", system="Be kind. " * 50)
    encoded = encode_all([ONE, hopeless], tokenizer, max_length=60)
    assert (len(encoded), encoded.dropped) == (1, 1)


def test_all_labels_masked_is_an_error_with_a_hint(tokenizer_with):
    with pytest.raises(LplanError, match="every label is masked") as caught:
        encode_all([ONE, ONE], tokenizer_with(CHATML), max_length=5)
    assert "5" in caught.value.hint


def test_no_examples_give_an_empty_set(tokenizer_with):
    assert len(encode_all([], tokenizer_with(CHATML))) == 0


def test_transformers_own_tokenizer_encodes_the_same(backend, tokenizer_with):
    from transformers import PreTrainedTokenizerFast

    full = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    full.chat_template = CHATML
    examples = [ONE, TWO, LONG]
    assert encode_all(examples, full, max_length=70) == encode_all(
        examples, tokenizer_with(CHATML), max_length=70
    )
