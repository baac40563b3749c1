"""Configurations of other programs: their own public examples, their defaults, and what is not understood."""

import ast
import importlib.util
import json
from pathlib import Path

import pytest
from made_up import HARDWARE

from lplan.planner.foreign import transformers_arguments
from lplan.planner.foreign.formats import read_foreign
from lplan.planner.request import make_request
from lplan.profiles.errors import UsageError

# github.com/axolotl-ai-cloud/axolotl, examples/llama-3/qlora.yml
AXOLOTL = """
base_model: NousResearch/Meta-Llama-3-8B
# optionally might have model_type or tokenizer_type
model_type: AutoModelForCausalLM
tokenizer_type: AutoTokenizer

load_in_8bit: false
load_in_4bit: true

datasets:
  - path: aaditya/alpaca_subset_1
    type: alpaca
dataset_prepared_path:
val_set_size: 0
output_dir: ./outputs/qlora-out

adapter: qlora
lora_model_dir:

sequence_len: 4096
sample_packing: true

lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true

wandb_project:

gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 4
optimizer: paged_adamw_32bit
lr_scheduler: cosine
learning_rate: 0.0002

bf16: auto
tf32: false

gradient_checkpointing: true
resume_from_checkpoint:
logging_steps: 1
attn_implementation: flash_attention_2

warmup_ratio: 0.1
evals_per_epoch: 4
saves_per_epoch: 1
weight_decay: 0.0
special_tokens:
  pad_token: "<|end_of_text|>"
"""

# github.com/hiyouga/LLaMA-Factory, examples/train_lora/qwen3_lora_sft.yaml
LLAMA_FACTORY = """
### model
model_name_or_path: Qwen/Qwen3-4B-Instruct-2507
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all

### dataset
dataset: identity,alpaca_en_demo
template: qwen3_nothink
cutoff_len: 2048
max_samples: 1000
preprocessing_num_workers: 16
dataloader_num_workers: 4

### output
output_dir: saves/qwen3-4b/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
save_only_model: false
report_to: none  # choices: [none, wandb, tensorboard, swanlab, mlflow]

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
"""

# github.com/huggingface/alignment-handbook, recipes/zephyr-7b-beta/sft/config_qlora.yaml, without its chat template
ZEPHYR = """
model_name_or_path: mistralai/Mistral-7B-v0.1
model_revision: main
torch_dtype: bfloat16
attn_implementation: flash_attention_2
load_in_4bit: true
use_peft: true
lora_r: 16
lora_alpha: 16
lora_dropout: 0.05
lora_target_modules:
- q_proj
- k_proj
- v_proj
- o_proj
- gate_proj
- up_proj
- down_proj
dataset_mixture:
  datasets:
    - id: HuggingFaceH4/ultrachat_200k
      weight: 1.0
  test_split_size: 1000
dataset_num_proc: 12
bf16: true
do_eval: true
eval_strategy: epoch
gradient_accumulation_steps: 2
gradient_checkpointing: true
gradient_checkpointing_kwargs:
  use_reentrant: false
hub_model_id: zephyr-7b-sft-qlora
hub_strategy: every_save
learning_rate: 2.0e-04
log_level: info
logging_steps: 5
lr_scheduler_type: cosine
max_length: 2048
max_steps: -1
num_train_epochs: 1
output_dir: data/zephyr-7b-sft-qlora
per_device_eval_batch_size: 8
per_device_train_batch_size: 4
push_to_hub: true
report_to:
- tensorboard
save_strategy: "steps"
seed: 42
warmup_ratio: 0.1
"""
ALL_OF_MISTRAL = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"


@pytest.fixture
def read(tmp_path):
    """Reads a configuration given as text or as a mapping."""

    def read(content):
        file = tmp_path / ("run.yaml" if isinstance(content, str) else "run.json")
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_foreign(file)

    return read


def test_axolotls_own_example(read):
    found = read(AXOLOTL)
    assert (found.format, found.model) == ("axolotl", "NousResearch/Meta-Llama-3-8B")
    assert found.asked == {
        "method": "qlora", "quantization": "nf4-dq", "kbit_preparation": False, "rank": 32, "alpha": 16,
        "dropout": 0.05, "target_modules": "all-linear", "batch_size": 2, "effective_batch": 8, "seq_len": 4096,
        "padding": "none", "attention": "flash", "checkpointing": "full", "optimizer": "paged-adamw",
        "precision": "bf16-amp", "epochs": 4.0, "learning_rate": 2e-4, "scheduler": "cosine", "weight_decay": 0.0,
        "tf32": "off",
    }  # fmt: skip
    assert not found.not_understood
    assert {"datasets", "output_dir", "wandb_project", "warmup_ratio"} <= set(found.ignored)


def test_llama_factorys_own_example(read):
    found = read(LLAMA_FACTORY)
    assert (found.format, found.model) == ("LLaMA-Factory", "Qwen/Qwen3-4B-Instruct-2507")
    assert found.asked == {
        "method": "lora", "rank": 8, "alpha": 16, "dropout": 0.0, "target_modules": "all-linear", "batch_size": 1,
        "effective_batch": 8, "seq_len": 2048, "checkpointing": "full", "optimizer": "adamw-fused",
        "precision": "bf16", "epochs": 3.0, "learning_rate": 1e-4, "scheduler": "cosine", "warmup_steps": 0,
        "tokenizing_workers": 16, "loader_workers": 4,
    }  # fmt: skip
    assert not found.not_understood
    assert {"template", "dataset", "plot_loss", "ddp_timeout", "trust_remote_code"} <= set(found.ignored)


@pytest.mark.parametrize("key", ["dataset_num_proc", "dataset_processes"])
def test_axolotls_tokenizing_workers(read, key):
    found = read({**AXOLOTL_LORA, key: 6, "dataloader_num_workers": 0})
    assert (found.asked["tokenizing_workers"], found.asked["loader_workers"]) == (6, 0)


def test_the_alignment_handbooks_recipe(read):
    found = read(ZEPHYR)
    assert (found.format, found.model) == ("TrainingArguments", "mistralai/Mistral-7B-v0.1")
    assert found.asked == {
        "method": "qlora", "quantization": "nf4", "kbit_preparation": False, "adapter_dtype": "base", "rank": 16,
        "alpha": 16, "dropout": 0.05, "target_modules": ALL_OF_MISTRAL, "batch_size": 4, "effective_batch": 8,
        "seq_len": 2048, "attention": "flash", "checkpointing": "full", "optimizer": "adamw-fused",
        "precision": "bf16-amp", "epochs": 1.0, "learning_rate": 2e-4, "scheduler": "cosine", "warmup_steps": 0,
        "seed": 42, "tokenizing_workers": 12,
    }  # fmt: skip
    assert found.not_understood == {"per_device_eval_batch_size": "8"}
    assert {"dataset_mixture", "hub_model_id", "report_to", "save_strategy"} <= set(found.ignored)


@pytest.mark.parametrize("text", [AXOLOTL, LLAMA_FACTORY, ZEPHYR])
def test_every_key_is_used_ignored_or_named(read, text):
    found = read(text)
    keys = [line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert sorted([*found.used, *found.ignored, *found.not_understood]) == sorted(keys)


def test_a_reading_makes_a_request(read):
    asked = read(LLAMA_FACTORY).asked
    request = make_request(asked, HARDWARE)
    recipe, schedule = request.recipe, request.schedule
    assert (recipe.method, recipe.rank, recipe.target_modules) == ("lora", 8, ("all-linear",))
    assert (recipe.batch_size, recipe.accumulation, recipe.seq_len) == (1, 8, 2048)
    assert (schedule.learning_rate, schedule.scheduler, schedule.warmup_steps) == (1e-4, "cosine", 0)


# What the programs do with an empty file: transformers/training_args.py, trl/trainer/{sft,model}_config.py,
# axolotl's schemas/{training,config,peft}.py, LLaMA-Factory's hparams.
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"output_dir": "out"},
            {"method": "full", "batch_size": 8, "effective_batch": 8, "checkpointing": "none", "precision": "fp32",
             "optimizer": "adamw-fused", "epochs": 3.0, "learning_rate": 5e-5},
        ),
        (
            {"output_dir": "out", "use_peft": True},
            {"method": "lora", "rank": 16, "alpha": 32, "dropout": 0.05, "batch_size": 8, "seq_len": 1024,
             "checkpointing": "full", "precision": "bf16-amp", "learning_rate": 2e-5},
        ),
        (
            {"output_dir": "out", "peft_type": "LORA", "r": 4},
            {"method": "lora", "rank": 4, "alpha": 8, "dropout": 0.0, "checkpointing": "none", "precision": "fp32"},
        ),
        (
            {"base_model": "m", "learning_rate": 1e-4},
            {"method": "full", "batch_size": 1, "effective_batch": 1, "seq_len": 512, "checkpointing": "none",
             "optimizer": "adamw-fused", "epochs": 1.0},
        ),
        (
            {"model_name_or_path": "m", "finetuning_type": "lora"},
            {"method": "lora", "rank": 8, "alpha": 16, "dropout": 0.0, "target_modules": "all-linear",
             "batch_size": 8, "seq_len": 2048, "checkpointing": "full"},
        ),
        (
            {"model_name_or_path": "m", "finetuning_type": "lora", "lora_rank": 16},
            {"rank": 16, "alpha": 32},
        ),
        (
            {"model_name_or_path": "m", "finetuning_type": "full", "bf16": True},
            {"method": "full", "precision": "bf16-amp"},
        ),
    ],
)  # fmt: skip
def test_a_formats_own_defaults(read, content, expected):
    asked = read(content).asked
    assert {knob: asked.get(knob) for knob in expected} == expected


TRAINER = {"per_device_train_batch_size": 1}
AXOLOTL_LORA = {"base_model": "m", "adapter": "lora", "lora_r": 8}
FACTORY = {"finetuning_type": "lora"}


@pytest.mark.parametrize(
    ("base", "keys", "precision"),
    [
        (TRAINER, {"bf16": True}, "bf16-amp"),
        (TRAINER, {"bf16": True, "dtype": "bfloat16"}, "bf16"),
        (TRAINER, {"bf16": True, "torch_dtype": "torch.bfloat16"}, "bf16"),
        (TRAINER, {"bf16": True, "dtype": "auto"}, "bf16"),
        (TRAINER, {"fp16": True}, "fp16-amp"),
        (TRAINER, {"dtype": "float16"}, "fp16"),
        (TRAINER, {"packing": False}, "bf16-amp"),
        (TRAINER, {"packing": False, "fp16": True}, "fp16-amp"),
        (TRAINER, {"packing": False, "bf16": False}, "fp32"),
        (TRAINER, {"max_seq_length": 512}, "fp32"),
        (TRAINER, {"load_in_4bit": True, "bf16": True, "dtype": "bfloat16"}, "bf16-amp"),
        (AXOLOTL_LORA, {"bf16": True}, "bf16"),
        (AXOLOTL_LORA, {"bf16": "auto"}, None),
        (AXOLOTL_LORA, {"bf16": False, "fp16": True}, "fp16"),
        (AXOLOTL_LORA, {"bf16": False}, "fp32"),
        (AXOLOTL_LORA, {"bf16": False, "bfloat16": True}, "bf16"),
        (AXOLOTL_LORA, {"bf16": True, "load_in_8bit": True}, "bf16-amp"),
        (FACTORY, {"bf16": True}, "bf16"),
        (FACTORY, {"pure_bf16": True}, "bf16"),
        (FACTORY, {"fp16": True}, "fp16"),
        (FACTORY, {"bf16": True, "quantization_bit": 8}, "bf16-amp"),
        (FACTORY, {"finetuning_type": "full", "pure_bf16": True}, "bf16"),
        (FACTORY, {"finetuning_type": "full"}, "fp32"),
    ],
)
def test_precision(read, base, keys, precision):
    assert read({**base, **keys}).asked.get("precision") == precision


@pytest.mark.parametrize(
    ("base", "keys", "knob", "value"),
    [
        (TRAINER, {"load_in_4bit": True, "use_bnb_nested_quant": True}, "quantization", "nf4-dq"),
        (TRAINER, {"load_in_8bit": True}, "quantization", "int8"),
        (TRAINER, {"load_in_8bit": False, "load_in_4bit": False}, "quantization", None),
        (TRAINER, {"activation_checkpointing": True}, "checkpointing", "full"),
        (
            TRAINER,
            {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"every_n_layers": 3}},
            "checkpointing",
            "every-3",
        ),
        (TRAINER, {"gradient_checkpointing": False, "packing": True}, "checkpointing", "none"),
        (TRAINER, {"max_length": None, "packing": False}, "seq_len", None),
        (TRAINER, {"max_length": 4096}, "seq_len", 4096),
        (TRAINER, {"packing": True}, "padding", "packed"),
        (TRAINER, {"padding_free": True, "packing": False}, "padding", "packed"),
        (TRAINER, {"activation_offloading": True}, "offload", ("activations",)),
        (
            TRAINER,
            {"gradient_checkpointing_kwargs": {"offload": True}, "gradient_checkpointing": True},
            "offload",
            ("checkpoints",),
        ),
        (
            TRAINER,
            {"gradient_checkpointing_kwargs": {"offload": True}, "gradient_checkpointing": False},
            "offload",
            None,
        ),
        (TRAINER, {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, "quantization", "fp4"),
        (TRAINER, {"packing": True, "packing_strategy": "wrapped"}, "padding", "none"),
        (TRAINER, {"packing": True, "attn_implementation": "flash_attention_2"}, "padding", "none"),
        (TRAINER, {"use_peft": True, "lora_target_modules": "all-linear"}, "target_modules", "all-linear"),
        (TRAINER, {"warmup_steps": 20}, "warmup_steps", 20),
        (TRAINER, {"warmup_steps": 0.1}, "warmup_steps", 0),
        (TRAINER, {"max_steps": 70}, "max_steps", 70),
        (TRAINER, {"max_steps": -1}, "max_steps", None),
        (AXOLOTL_LORA, {"sample_packing": True}, "padding", "padded"),
        (AXOLOTL_LORA, {"gradient_checkpointing": "offload"}, "checkpointing", "full"),
        (AXOLOTL_LORA, {"gradient_checkpointing": "offload"}, "offload", ("checkpoints",)),
        (AXOLOTL_LORA, {"activation_offloading": True}, "offload", ("activations",)),
        (AXOLOTL_LORA, {"liger_fused_linear_cross_entropy": True}, "loss", "fused"),
        (AXOLOTL_LORA, {"flash_attention": True}, "attention", "flash"),
        (AXOLOTL_LORA, {"sdp_attention": True}, "attention", "sdpa"),
        (AXOLOTL_LORA, {"lora_target_modules": ["q_proj", "v_proj"]}, "target_modules", "q_proj,v_proj"),
        (AXOLOTL_LORA, {"micro_batch_size": 2, "batch_size": 8}, "effective_batch", 8),
        (FACTORY, {"quantization_bit": 4}, "quantization", "nf4-dq"),
        (FACTORY, {"quantization_bit": 4, "double_quantization": False}, "quantization", "nf4"),
        (FACTORY, {"disable_gradient_checkpointing": True}, "checkpointing", "none"),
        (FACTORY, {"flash_attn": "fa2"}, "attention", "flash"),
        (FACTORY, {"flash_attn": "disabled"}, "attention", "eager"),
        (FACTORY, {"flash_attn": "auto"}, "attention", None),
        (FACTORY, {"lora_target": "q_proj,v_proj"}, "target_modules", "q_proj,v_proj"),
        (FACTORY, {"stage": "pt"}, "padding", "none"),
        (FACTORY, {"neat_packing": True}, "padding", "padded"),
    ],
)
def test_single_keys(read, base, keys, knob, value):
    found = read({**base, **keys})
    assert found.asked.get(knob) == value
    assert not found.not_understood


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("adamw_torch", "adamw"),
        ("adamw_torch_fused", "adamw-fused"),
        ("adamw_8bit", "adamw-8bit"),
        ("adamw_bnb_8bit", "adamw-8bit"),
        ("paged_adamw_32bit", "paged-adamw"),
        ("paged_adamw_8bit", "paged-adamw-8bit"),
        ("adafactor", "adafactor"),
        ("lion_32bit", "lion"),
        ("sgd", "sgd"),
    ],
)
def test_optimizers(read, name, optimizer):
    assert read({**TRAINER, "optim": name}).asked["optimizer"] == optimizer
    assert read({**AXOLOTL_LORA, "optimizer": name}).asked["optimizer"] == optimizer
    assert read({**FACTORY, "optim": name}).asked["optimizer"] == optimizer


@pytest.mark.parametrize(
    ("base", "keys", "knob", "named"),
    [
        (TRAINER, {"optim": "galore_adamw"}, "optimizer", {"optim": "galore_adamw"}),
        (TRAINER, {"attn_implementation": "flex_attention"}, "attention", {"attn_implementation": "flex_attention"}),
        (TRAINER, {"packing": False, "loss_type": "chunked_nll"}, "loss", {"loss_type": "chunked_nll"}),
        (TRAINER, {"deepspeed": {"zero": 3}}, None, {"deepspeed": ""}),
        (TRAINER, {"torch_compile": True}, None, {"torch_compile": ""}),
        (TRAINER, {"use_qalora": True, "use_peft": True}, None, {"use_qalora": ""}),
        (TRAINER, {"something_new": 1}, None, {"something_new": ""}),
        (AXOLOTL_LORA, {"lora_target_modules": ["layers.[0-3].q_proj"]}, "target_modules", {"lora_target_modules": ""}),
        (AXOLOTL_LORA, {"fsdp": ["full_shard"]}, None, {"fsdp": ""}),
        (AXOLOTL_LORA, {"activation_offloading": "disk"}, "offload", {"activation_offloading": "disk"}),
        (TRAINER, {"use_liger_kernel": True}, None, {"use_liger_kernel": "True"}),
        (FACTORY, {"enable_liger_kernel": True}, None, {"enable_liger_kernel": "True"}),
        (FACTORY, {"use_unsloth": True}, None, {"use_unsloth": ""}),
        (FACTORY, {"quantization_method": "hqq"}, None, {"quantization_method": "hqq"}),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_named_and_asks_for_nothing(read, base, keys, knob, named):
    found = read({**base, **keys})
    assert found.not_understood == named
    assert knob not in found.asked


@pytest.mark.parametrize(
    ("base", "keys"),
    [
        (
            TRAINER,
            {"deepspeed": None, "fsdp": [], "torch_compile": False, "bias": "none", "modules_to_save": None},
        ),
        (TRAINER, {"per_device_eval_batch_size": 64, "eval_strategy": "no", "dataloader_num_workers": 0}),
        (AXOLOTL_LORA, {"lora_modules_to_save": [], "deepspeed": None, "never_heard_of": None}),
        (FACTORY, {"use_dora": False, "additional_target": None, "upcast_layernorm": False}),
    ],
)
def test_what_is_switched_off_changes_nothing(read, base, keys):
    found = read({**base, **keys})
    assert not found.not_understood
    assert set(keys) <= {*found.ignored, *found.used}


def test_a_checkpoint_on_disk_counts_as_one_that_stays(read):
    assert read({**AXOLOTL_LORA, "gradient_checkpointing": "offload_disk"}).asked["checkpointing"] == "full"


def test_ligers_fused_loss_alone_is_understood(read):
    others = dict.fromkeys(("rope", "rms_norm", "swiglu"), False)
    found = read({**TRAINER, "use_liger_kernel": True, "liger_kernel_config": others})
    assert (found.asked["loss"], found.not_understood) == ("fused", {})


def test_a_trainers_file_with_a_base_model_is_no_axolotl(read):
    found = read({"base_model": "m", "per_device_train_batch_size": 3})
    assert (found.format, found.model, found.asked["batch_size"]) == ("TrainingArguments", "m", 3)


def test_every_field_of_training_arguments_is_known(read):
    # The installed class's own fields, by its source: importing it would import torch.
    spec = importlib.util.find_spec("transformers")
    source = Path(spec.origin).with_name("training_args.py").read_text(encoding="utf-8")
    (body,) = (n.body for n in ast.parse(source).body if getattr(n, "name", "") == "TrainingArguments")
    fields = [n.target.id for n in body if isinstance(n, ast.AnnAssign)]
    assert len(fields) > 90
    found = read(dict.fromkeys(fields, False) | {"output_dir": "out"} | dict.fromkeys(TYPED))
    assert not found.not_understood
    known = transformers_arguments.HARMLESS | transformers_arguments.FEATURES | set(TYPED) | SWITCHES
    assert [
        f for f in fields if f not in known and not f.startswith(transformers_arguments.HARMLESS_PREFIXES)
    ] == []


TYPED = (
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "num_train_epochs",
    "max_steps", "learning_rate", "warmup_steps", "lr_scheduler_type", "weight_decay", "max_grad_norm", "seed", "optim",
    "activation_checkpointing_kwargs", "gradient_checkpointing_kwargs", "eval_accumulation_steps",
    "dataloader_num_workers",
)  # fmt: skip
SWITCHES = {
    "bf16", "fp16", "tf32", "use_liger_kernel", "activation_checkpointing", "gradient_checkpointing",
    "prediction_loss_only", "batch_eval_metrics",
}  # fmt: skip


# --- flags over the file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "flags", "expected"),
    [
        (LLAMA_FACTORY, {}, {"rank": 8, "effective_batch": 8}),
        (LLAMA_FACTORY, {"rank": 64}, {"rank": 64, "alpha": 16}),
        (LLAMA_FACTORY, {"batch_size": 3}, {"batch_size": 3, "effective_batch": 24}),
        (LLAMA_FACTORY, {"batch_size": 3, "effective_batch": 6}, {"batch_size": 3, "effective_batch": 6}),
        (LLAMA_FACTORY, {"method": "full"}, {"method": "full", "quantization": None}),
        (LLAMA_FACTORY, {"quantization": "nf4"}, {"method": "lora", "quantization": "nf4"}),
        (
            AXOLOTL,
            {"quantization": "none"},
            {"method": "lora", "quantization": "none", "kbit_preparation": None},
        ),
        (AXOLOTL, {"method": "lora"}, {"method": "lora", "quantization": None, "kbit_preparation": None}),
        (
            AXOLOTL,
            {"quantization": "int8"},
            {"method": "qlora", "quantization": "int8", "kbit_preparation": False},
        ),
        (AXOLOTL, {"attention": "sdpa", "padding": "none"}, {"attention": "sdpa", "padding": "none"}),
    ],
)
def test_flags_override_the_file(read, content, flags, expected):
    unset = dict.fromkeys(("rank", "alpha", "batch_size", "method", "quantization", "hardware")) | {
        "offload": ()
    }
    asked = read(content).under({**unset, **flags})
    assert {knob: asked.get(knob) for knob in expected} == expected
    assert {"hardware", "offload"} <= asked.keys()


# --- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({**TRAINER, "per_device_train_batch_size": "auto"}, "is 'auto', not a whole number of at least 1"),
        ({**TRAINER, "per_device_train_batch_size": 0}, "is 0, not a whole number"),
        ({**TRAINER, "per_device_train_batch_size": True}, "is True, not a whole number"),
        ({**TRAINER, "per_device_train_batch_size": [2]}, "is a list, not a whole number"),
        ({**TRAINER, "bf16": "maybe"}, "bf16 in .* is 'maybe', not true or false"),
        ({**TRAINER, "learning_rate": "fast"}, "is 'fast', not a number"),
        ({**TRAINER, "learning_rate": float("nan")}, "is nan, not a number"),
        ({**TRAINER, "model_name_or_path": 7}, "is 7, not a text"),
        ({**TRAINER, "gradient_checkpointing_kwargs": "yes"}, "not a mapping"),
        ({**AXOLOTL_LORA, "lora_target_modules": {"a": 1}}, "is a dict, not a list of names"),
        ({**AXOLOTL_LORA, "adapter": "llama-adapter"}, "adapter in .* is 'llama-adapter'"),
        ({**AXOLOTL_LORA, "rl": "dpo"}, "not supervised fine-tuning: it has rl"),
        ({**FACTORY, "stage": "dpo"}, "not supervised fine-tuning: its stage is dpo"),
        ({"finetuning_type": "freeze"}, "finetuning_type in .* is 'freeze'"),
        ({**FACTORY, "quantization_bit": 3}, "quantization_bit in .* is 3"),
        ({**TRAINER, "num_generations": 8}, "not supervised fine-tuning: it has num_generations"),
        ({**TRAINER, "peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING"),
        ({"model_type": "llama", "hidden_size": 64}, "no training configuration that lplan knows"),
        ({}, "no training configuration that lplan knows"),
    ],
)
def test_values_that_cannot_be(read, content, error):
    with pytest.raises(UsageError, match=error) as caught:
        read(content)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_the_hint_lists_the_formats(read):
    with pytest.raises(UsageError) as caught:
        read({"schema": "lplan.plan/1"})
    for name in ("TrainingArguments", "SFTConfig", "axolotl", "LLaMA-Factory"):
        assert name in caught.value.hint


def test_a_rate_that_yaml_reads_as_text_is_a_number(read):
    assert read("per_device_train_batch_size: 1\nlearning_rate: 2e-4\n").asked["learning_rate"] == 2e-4
