"""`lplan estimate --from FILE`: another program's configuration, priced."""

import json

import pytest

# github.com/axolotl-ai-cloud/axolotl, examples/archived/tiny-llama/lora.yml, without its 8 bits and flash-attention
AXOLOTL = """
base_model: tinyllama
tokenizer_type: AutoTokenizer
datasets:
  - path: mhenrichsen/alpaca_2k_test
    type: alpaca
dataset_prepared_path:
val_set_size: 0.05
output_dir: ./outputs/lora-out
sequence_len: 1024
adapter: lora
lora_model_dir:
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
wandb_project:
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 4
optimizer: adamw_torch_fused
lr_scheduler: cosine
learning_rate: 0.0002
bf16: auto
tf32: false
gradient_checkpointing: true
logging_steps: 1
sage_attention: true
warmup_ratio: 0.1
evals_per_epoch: 4
weight_decay: 0.0
"""
BUDGET = ("--ram", "16G")


@pytest.fixture
def file(tmp_path):
    """The example as a file."""
    path = tmp_path / "lora.yml"
    path.write_text(AXOLOTL)
    return path


def test_the_file_is_priced(lplan, file):
    result = lplan("estimate", "--from", file, *BUDGET)
    assert result.status == 0
    assert "TinyLlama" in result.out
    assert "LoRA r 32 on all linear layers" in result.out
    assert "2 × 1024 tokens" in result.out
    assert "checkpointing full" in result.out


def test_what_was_read_is_said_on_stderr(lplan, file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = lplan("estimate", "--from", f"../{file.name}", *BUDGET).err.splitlines()
    assert max(map(len, lines)) <= 100
    said = " ".join(" ".join(lines).split())
    assert "read ../lora.yml as axolotl: used 17 keys" in said
    assert "no effect on memory: tokenizer_type, datasets, dataset_prepared_path" in said
    assert said.endswith("not understood, and not counted: sage_attention")


def test_the_document_says_where_it_comes_from(lplan, file):
    document = lplan("estimate", "--from", file, *BUDGET, "--json").document
    origin = document["from"]
    assert origin.keys() == {"file", "format", "used", "ignored", "not_understood"}
    assert (origin["file"], origin["format"]) == (str(file), "axolotl")
    assert origin["not_understood"] == ["sage_attention"]
    assert "lora_r" in origin["used"]
    assert "wandb_project" in origin["ignored"]
    assert document["schema"] == "lplan.estimate/1"
    recipe = document["recipe"]
    assert (recipe["rank"], recipe["seq_len"], recipe["optimizer"]) == (32, 1024, "adamw-fused")
    assert (recipe["batch_size"], recipe["accumulation"]) == (2, 4)


def test_without_a_file_the_document_is_as_ever(lplan):
    assert "from" not in lplan("estimate", "--model", "tinyllama", *BUDGET, "--json").document


def test_the_estimate_is_that_of_the_same_flags(lplan, file):
    flags = (
        "--model", "tinyllama", "--rank", 32, "--alpha", 16, "--dropout", 0.05, "--target-modules", "all-linear",
        "--batch-size", 2, "--effective-batch", 8, "--seq-len", 1024, "--checkpointing", "full",
        "--optimizer", "adamw-fused",
    )  # fmt: skip
    by_flags = lplan("estimate", *flags, *BUDGET, "--json").document
    by_file = lplan("estimate", "--from", file, *BUDGET, "--json").document
    del by_file["from"]
    assert by_file == by_flags


def test_flags_override_the_file(lplan, file, model):
    words = ("--model", model, "--rank", 4, "--batch-size", 1, "--seq-len", 64, "--checkpointing", "none")
    document = lplan("estimate", "--from", file, *words, *BUDGET, "--json").document
    recipe = document["recipe"]
    assert document["model"]["id"] == model.name
    assert (recipe["rank"], recipe["alpha"]) == (4, 16)
    assert (recipe["batch_size"], recipe["accumulation"], recipe["seq_len"]) == (1, 4, 64)
    assert recipe["checkpointing"] == "none"


def test_what_the_file_leaves_open_is_taken_by_default(lplan, tmp_path):
    file = tmp_path / "args.json"
    file.write_text(json.dumps({"per_device_train_batch_size": 1, "use_peft": True, "max_length": 128}))
    document = lplan("estimate", "--from", file, "--model", "tinyllama", *BUDGET, "--json").document
    assert document["assumptions"][-1] == "taken by default: target modules attention"


@pytest.mark.parametrize(
    ("content", "words", "error", "hint"),
    [
        (None, (), "there is no", "JSON or YAML"),
        ("a: [1", (), "is not valid YAML", "JSON or YAML"),
        ("- 1", (), "is not a mapping", "JSON or YAML"),
        ("hidden_size: 64", (), "no training configuration that lplan knows", "axolotl, LLaMA-Factory"),
        ("base_model: tinyllama\nsequence_len: long\n", (), "sequence_len in", "give the value as a flag"),
        ("sequence_len: 64\n", (), "names no model", "--model"),
        ("base_model: tinyllama\nadapter: qlora\nload_in_4bit: true\n", (), "on a CPU", "--quantization none"),
        ("base_model: tinylama\nsequence_len: 64\n", (), "no model is called 'tinylama'", "tinyllama"),
        ("base_model: tinyllama\nsequence_len: 64\n", ("--rank", 0), "Invalid value for '--rank'", "--help"),
    ],
)  # fmt: skip
def test_what_cannot_be(lplan, tmp_path, content, words, error, hint):
    file = tmp_path / "run.yaml"
    if content is not None:
        file.write_text(content)
    message, advice = lplan("estimate", "--from", file, *words, *BUDGET).refused(2)
    assert error in message
    assert hint in advice


def test_the_hint_of_a_refusal_helps(lplan, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("base_model: tinyllama\nadapter: qlora\nload_in_4bit: true\nlora_r: 8\n")
    recipe = lplan("estimate", "--from", file, "--quantization", "none", *BUDGET, "--json").document["recipe"]
    assert (recipe["method"], recipe["quantization"], recipe["rank"]) == ("lora", "none", 8)


def test_a_configuration_that_does_not_fit(lplan, file):
    result = lplan("estimate", "--from", file, "--ram", "500M")
    assert result.status == 3
    assert "the budget is 0.49 GiB" in result.complaint()[0]
    assert "as axolotl" in result.err


@pytest.mark.parametrize("command", ["plan", "fit-and-train"])
def test_only_estimate_reads_other_programs_files(lplan, file, command):
    assert "No such option '--from'" in lplan(command, "--from", file).refused(2)[0]
