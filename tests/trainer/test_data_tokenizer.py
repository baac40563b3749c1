"""The light tokenizer is transformers' own: same ids, same texts."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

from lplan.planner.chat import LLAMA_2
from lplan.profiles.errors import LplanError
from lplan.trainer.data.chat_template import ChatTemplateError, render
from lplan.trainer.data.readers import read_examples
from lplan.trainer.data.tokenizer import LightTokenizer, load_tokenizer, pad_token_id
from lplan.trainer.data.tokenizer_training import train_tokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
AWKWARD = [
    "",
    " ",
    "Plain text, 12345.",
    "  two  spaces\n\n\tand tabs ",
    "café ☕ 日本語 🏦",
    "a </s><s> b<unk>",
    "x" * 3000,
]


@pytest.fixture(scope="module")
def texts():
    demo = read_examples("demo", task=None)
    return [m.content for e in demo.train for m in e.messages[1:]]


@pytest.fixture(scope="module")
def llama_like(tmp_path_factory, texts):
    """A folder with a byte-level tokenizer that has Llama's special tokens, and a chat template."""
    folder = tmp_path_factory.mktemp("llama-like")
    train_tokenizer(texts, 1000, folder)
    (folder / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def sentencepiece_like(tmp_path_factory, texts):
    """A folder with a tokenizer.json as Llama 2's: byte fallback, prefix spaces, class LlamaTokenizer."""
    folder = tmp_path_factory.mktemp("sentencepiece-like")
    backend = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    words = [word for text in texts for word in text.split(" ")]
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=special, show_progress=False)
    backend.train_from_iterator(words, trainer)
    saved = json.loads(backend.to_str())
    saved["added_tokens"] = saved["added_tokens"][:3]
    (folder / "tokenizer.json").write_text(json.dumps(saved), encoding="utf-8")
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    return folder


def transformers_own(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("add_special_tokens", [True, False])
def test_ids_offsets_and_special_tokens_equal_transformers(llama_like, texts, add_special_tokens):
    light, full = load_tokenizer(llama_like), transformers_own(llama_like)
    assert isinstance(light, LightTokenizer)
    options = {"add_special_tokens": add_special_tokens, "return_offsets_mapping": True}
    ours, theirs = light([*texts, *AWKWARD], **options), full([*texts, *AWKWARD], **options)
    assert ours["input_ids"] == theirs["input_ids"]
    assert ours["offset_mapping"] == theirs["offset_mapping"]
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(light, name) == getattr(full, name)
    assert light.get_added_vocab() == full.get_added_vocab()
    assert len(light) == len(full)


@pytest.mark.parametrize("template", [None, LLAMA_2])
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_rendered_dialogues_equal_transformers(llama_like, template, add_generation_prompt):
    light, full = load_tokenizer(llama_like), transformers_own(llama_like)
    dialogue = [
        {"role": "system", "content": "Be <brief> & 'polite'."},
        {"role": "user", "content": "Hi\nthere"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye"},
    ]
    options = {"chat_template": template, "add_generation_prompt": add_generation_prompt}
    text = light.apply_chat_template(dialogue, tokenize=False, **options)
    assert text == full.apply_chat_template(dialogue, tokenize=False, **options)
    ids = full.apply_chat_template(dialogue, tokenize=True, return_dict=False, **options)
    assert light.apply_chat_template(dialogue, tokenize=True, **options) == ids


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}\n  {%- if loop.last %}\n{% break %}{% endif %}\n  {{ m['content'] }}\n{% endfor %}",
        "{% for m in messages %}{% generation %}{{ m | tojson }}{% endgeneration %}{% endfor %}",
        "{{ messages | tojson(indent=2) }}{{ messages[0] | tojson(separators=(',', ':'), sort_keys=True) }}",
        "{{ strftime_now('%Y-%m') }} {{ tools is none }} {{ documents is none }} {{ bos_token }} {{ sep_token }}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    ],
)
def test_what_templates_may_use_is_there_as_in_transformers(llama_like, template):
    light, full = load_tokenizer(llama_like), transformers_own(llama_like)
    messages = [{"role": "user", "content": "<ä> & 'b'"}, {"role": "user", "content": "two"}]
    options = {"chat_template": template, "tokenize": False, "add_generation_prompt": False}
    assert (
        light.apply_chat_template(messages, **options) == full.apply_chat_template(messages, **options) != ""
    )


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('not like this') }}",
        "{% for %}",
        "{{ messages[9]['content'] + 'x' }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
    ],
)
def test_a_template_that_refuses_is_broken_or_breaks_out_is_an_error(template):
    with pytest.raises(ChatTemplateError):
        render(template, [{"role": "user", "content": "x"}], special_tokens={}, add_generation_prompt=False)


def test_where_transformers_rebuilds_the_tokenizer_its_own_is_used(sentencepiece_like, texts):
    loaded, full = load_tokenizer(sentencepiece_like), transformers_own(sentencepiece_like)
    assert type(loaded) is type(full)
    as_in_the_file = Tokenizer.from_file(str(sentencepiece_like / "tokenizer.json"))
    text = "[INST] hi [/INST] hello</s><s>[INST] bye [/INST]"
    assert as_in_the_file.encode(text).ids != full.encode(text, add_special_tokens=False)  # hence the rule


def test_a_folder_named_as_text_is_the_same(llama_like):
    assert load_tokenizer(str(llama_like)).encode("hi") == load_tokenizer(llama_like).encode("hi")


def test_truncation_and_padding_saved_in_the_file_are_off(llama_like, tmp_path):
    backend = Tokenizer.from_file(str(llama_like / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    backend.save(str(tmp_path / "tokenizer.json"))
    ids = load_tokenizer(tmp_path)(["one two three four five six seven", "a"], add_special_tokens=False)[
        "input_ids"
    ]
    assert len(ids[0]) > 4
    assert len(ids[1]) == 1


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"chat_template": "one"}, "one"),
        (
            {"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]},
            "d",
        ),
        ({}, None),
    ],
)
def test_chat_templates_inside_the_configuration(llama_like, tmp_path, config, expected):
    (tmp_path / "tokenizer.json").write_bytes((llama_like / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load_tokenizer(tmp_path).chat_template == expected


@pytest.mark.parametrize(
    ("files", "begin_and_end"),
    [
        ({"tokenizer_config": {"bos_token": "<s>", "eos_token": {"content": "</s>"}}}, (1, 2)),
        ({"special_tokens_map": {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}}, (1, 2)),
        ({"config": {"bos_token_id": 1, "eos_token_id": 2}}, (1, 2)),  # as GPT-2's files
        (
            {"config": {"bos_token_id": 1, "eos_token_id": 2}, "tokenizer_config": {"bos_token": None}},
            (None, 2),
        ),
        ({}, (None, None)),
    ],
)
def test_special_tokens_wherever_they_are_named(llama_like, tmp_path, files, begin_and_end):
    (tmp_path / "tokenizer.json").write_bytes((llama_like / "tokenizer.json").read_bytes())
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    loaded = load_tokenizer(tmp_path)
    assert (loaded.bos_token_id, loaded.eos_token_id) == begin_and_end
    assert pad_token_id(loaded) == (begin_and_end[1] or 0)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no readable tokenizer"),
        ({"tokenizer.json": "{}"}, "no readable tokenizer"),
        ({"tokenizer.json": "not json"}, "no readable tokenizer"),
        ({"tokenizer.json": "{}", "tokenizer_config.json": "{"}, "no readable JSON"),
    ],
)
def test_a_missing_or_broken_tokenizer_is_one_line_and_a_hint(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(LplanError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_trained_tokenizer_has_llamas_ids_and_stays_within_its_bound(llama_like):
    tokenizer = load_tokenizer(llama_like)
    assert [tokenizer.encode(t, add_special_tokens=False) for t in ("<unk>", "<s>", "</s>")] == [
        [0],
        [1],
        [2],
    ]
    assert tokenizer.encode("hi")[0] == 1
    assert len(tokenizer) == 1000
    assert tokenizer.decode(tokenizer.encode("Grüße 🏦", add_special_tokens=False)) == "Grüße 🏦"


def test_few_texts_give_fewer_tokens_than_allowed(tmp_path):
    tokenizer = train_tokenizer(["ab ab ab"], 32_000, tmp_path)
    assert 256 + 3 < len(tokenizer) < 300  # bytes, special tokens, a few merges


def test_loading_imports_no_framework(llama_like):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path\n"
        "from lplan.trainer.data.tokenizer import load_tokenizer\n"
        "from lplan.trainer.data.encoding import encode_all, token_lengths\n"
        "from lplan.trainer.data.readers import read_examples\n"
        f"tokenizer = load_tokenizer(Path({str(llama_like)!r}))\n"
        "token_lengths(encode_all(read_examples('demo', task=None).train, tokenizer))\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
