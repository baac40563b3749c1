"""Plans to export: between them every kind of value that a file may have a word for, or none."""

from __future__ import annotations

from dataclasses import replace

import made_up

from lplan.planner.plan import Plan, Schedule
from lplan.planner.planning import make_plan
from lplan.planner.recipe import ALL_LINEAR, Recipe

GPU = {"device": "cuda", "kernel": "flash", "allocator": "default"}
RECIPES = {
    "usual": Recipe(seq_len=160, supervised_len=160),
    "all linears, recomputed": Recipe(target_modules=ALL_LINEAR, rank=32, alpha=64, dropout=0.0, checkpointing="full"),
    "every other layer": Recipe(checkpointing="every-2", loss="chunked", input_casting=False),
    "whole": Recipe(method="full", batch_size=3, accumulation=5, optimizer="adamw-fused"),
    "whole in fp32": Recipe(method="full", precision="fp32", optimizer="adafactor"),
    "autocast": Recipe(precision="bf16-amp", optimizer="adamw-fused", attention="eager"),
    "16-bit adapters": Recipe(adapter_dtype="base", optimizer="sgd-momentum", allocator="default"),
    "DoRA": Recipe(dora=True, rank_pattern=(("q_proj", 4),)),
    "copies": Recipe(modules_to_save=("embed_tokens", "lm_head"), rslora=True, target_modules=("re:.*_proj",)),
    "tokens and biases": Recipe(trainable_tokens=(3, 5), alpha_pattern=(("q_proj", 4),), bias="all"),
    "experts": Recipe(target_parameters=("experts.down_proj",), dropout=0.0, target_modules=("q_proj",)),
    "qlora": Recipe(
        **GPU, method="qlora", quantization="nf4-dq", precision="bf16-amp", kbit_preparation=False,
        optimizer="paged-adamw-8bit",
    ),
    "qlora, prepared": Recipe(**GPU, method="qlora", quantization="nf4", precision="bf16"),
    "8 bits": Recipe(
        **GPU, method="qlora", quantization="int8", precision="fp16-amp", kbit_preparation=False,
    ),
    "fp4, fused": Recipe(
        **GPU, method="qlora", quantization="fp4", loss="fused", checkpointing="full", offload=("checkpoints",),
        head_ratio=8,
    ),
    "fp16": Recipe(**GPU, precision="fp16", optimizer="adamw-8bit"),
}  # fmt: skip
SCHEDULE = Schedule(
    epochs=2.0, learning_rate=1e-4, warmup_steps=7, weight_decay=0.01, max_grad_norm=0.5, seed=5
)


def planned(recipe: Recipe, schedule: Schedule = SCHEDULE) -> Plan:
    """A plan of the model that was made up."""
    plan = make_plan(made_up.task(), None)
    return replace(plan, recipe=recipe, schedule=schedule)
