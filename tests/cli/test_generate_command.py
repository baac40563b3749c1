"""`lplan generate` on a tiny model with real weights: PEFT's own answers, several adapters, what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
from command_line import CONFIG

torch = pytest.importorskip("torch")
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def base(model):
    from transformers import AutoModelForCausalLM, LlamaConfig

    (model / "chat_template.jinja").write_text(TEMPLATE)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LlamaConfig(**CONFIG), dtype=torch.float32).save_pretrained(model)
    return model


@pytest.fixture
def adapter(base, tmp_path):
    """Makes an adapter of rank 4 that says something else for every seed."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    def make(seed):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "o_proj"])
        wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        wrapped.save_pretrained(tmp_path / f"adapter-{seed}")
        return tmp_path / f"adapter-{seed}"

    return make


def by_the_libraries(base, adapter, prompt, most):
    """What transformers' own tokenizer, template and `generate` make of it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = model.eval().generate(
        **ids, max_new_tokens=most, do_sample=False, eos_token_id=tokenizer.eos_token_id
    )
    return tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def test_adapters_answer_in_turn_as_the_libraries_do(lplan, base, adapter):
    first, second = adapter(1), adapter(2)
    words = ("generate", first, "Where is my card?", "--adapter", second, "--base", "--max-tokens", 8)
    result = lplan(*words, "--json")
    assert result.status == 0, result.err
    document = result.document
    assert document["schema"] == "lplan.generate/1"
    texts = {answer["by"]: answer["text"] for answer in document["answers"]}
    for name, folder in (("base", None), ("adapter-1", first), ("adapter-2", second)):
        assert texts[name] == by_the_libraries(base, folder, "Where is my card?", 8), name
    assert len(set(texts.values())) == 3
    # A and B of rank 4 for two square matrices of 32 in two layers, in fp32
    assert [held["held_bytes"] for held in document["adapters"]] == [4 * 4 * (32 + 32) * 2 * 2] * 2
    shown = lplan(*words)
    assert shown.out.splitlines()[0] == "base:"
    assert texts["adapter-2"].strip() in shown.out
    assert "adapter-2 0.0 MiB" in shown.err


def test_what_does_not_go_together_is_refused(lplan, base, adapter, tmp_path):
    first = adapter(1)
    other = shutil.copytree(first, tmp_path / "other")
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "gpt2"}))
    run = tmp_path / "run"
    run.mkdir()
    (run / "job.json").write_text("{}")
    for words, status, error in (
        ((tmp_path / "nowhere", "hi"), 2, "there is no folder"),
        ((tmp_path, "hi"), 2, "holds no adapter"),
        ((run, "hi"), 1, "job.json cannot be read"),
        ((other, "hi"), 2, "the base gpt2"),
        ((first, "hi", "--adapter", other), 2, "is an adapter of gpt2"),
        ((first, "  "), 2, "the prompt is empty"),
        ((first, "hi", "--max-tokens", 1000), 2, "context of 256"),
    ):
        message, _ = lplan("generate", *words).refused(status)
        assert error in message


def test_an_adapter_of_a_larger_model_is_refused(lplan, base, adapter, tmp_path):
    from transformers import AutoModelForCausalLM, LlamaConfig

    first = adapter(1)
    for sizes in ({"hidden_size": 64}, {"num_hidden_layers": 1}):
        config = LlamaConfig(**{**CONFIG, **sizes})
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(base)
        message, hint = lplan("generate", first, "hi").refused(1)
        assert "does not go with this base" in message
        assert "another model" in hint


@pytest.mark.parametrize("verb", [("generate", "hi"), ("merge", "--output", "new")])
def test_an_index_that_names_files_of_other_folders_is_refused(lplan, base, adapter, verb):
    """Before anything is loaded, or written."""
    first, (name, *words) = adapter(1), verb
    (base / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "../../outside.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    message, hint = lplan(name, first, *words).refused(1)
    assert "not a file of its own folder" in message
    assert "do not load this model" in hint
