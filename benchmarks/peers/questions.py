"""The stock stack's rows as plain questions, which every ask_*.py reads: JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lplan.profiles.find import find_model

from ..rows import Row, lines
from ..truth import a100_rows, t4_rows


def questions() -> dict[str, dict[str, Any]]:
    """By name, of every row whose base is not packed: no peer knows GPTQ."""
    counted = {line["run_id"]: line["config"]["num_params"] for line in lines("t4.jsonl") if line["config"]}
    asked = {row.name: _question(row, counted[row.name]) for row in t4_rows()}
    mistral = find_model("mistral-7b").parameters
    return asked | {row.name: _question(row, mistral) for row in a100_rows() if not row.recipe.is_packed}


def measured(row: Mapping[str, Any]) -> int:
    """What a peer's answer is held against: a T4's process, an A100's tensors, as no more was read there."""
    sizes: Mapping[str, int] = row["measured"]
    return sizes.get("process", sizes["allocated"])


def _question(row: Row, parameters: int) -> dict[str, Any]:
    recipe, config = row.recipe, row.config
    return {
        "name": row.name, "gpu": "t4" if "T4" in row.gpu.name else "a100-80", "tensors": "process" not in row.measured,
        "vram_gib": row.gpu.memory_bytes / 2**30, "method": recipe.method, "quantization": recipe.quantization,
        "precision": recipe.precision.partition("-")[0], "rank": recipe.rank,
        "targets": list(recipe.target_modules), "batch_size": recipe.batch_size, "seq_len": recipe.seq_len,
        "checkpointing": recipe.checkpointing == "full", "eager": recipe.attention == "eager",
        "parameters": parameters, "config": {"head_dim": None, "num_key_value_heads": None} | dict(config),
    }  # fmt: skip
