"""Tables of the installed transformers, read from its source: importing it would take seconds."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .errors import LplanError


@cache
def causal_lm_architectures() -> Mapping[str, str]:
    """Class that AutoModelForCausalLM builds, by model_type."""
    table = dict(_literal("models/auto/modeling_auto.py", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"))
    return {kind: name if isinstance(name, str) else name[0] for kind, name in table.items()}


@cache
def gguf_config_keys() -> Mapping[str, Mapping[str, str | None]]:
    """Key in config.json, by GGUF architecture and metadata key; None for what transformers skips."""
    table: dict[str, dict[str, str | None]] = _literal("integrations/ggml.py", "GGUF_CONFIG_MAPPING")
    return table


@cache
def gguf_config_defaults() -> Mapping[str, Mapping[str, Any]]:
    """What transformers adds to the configuration of a GGUF architecture."""
    table: dict[str, dict[str, Any]] = _literal("integrations/ggml.py", "GGUF_CONFIG_DEFAULTS_MAPPING")
    return table


def _literal(file: str, name: str) -> Any:
    """The value of the module-level assignment `name`; of a call, its first argument."""
    path = _package() / file
    try:
        text = path.read_text(encoding="utf-8")
        statement = re.search(rf"^{name} = .*?^[)}}]", text, re.MULTILINE | re.DOTALL)
        tree = ast.parse(statement[0] if statement else "", mode="exec").body[0]
        value = tree.value if isinstance(tree, ast.Assign) else None
        return ast.literal_eval(value.args[0] if isinstance(value, ast.Call) else value or "")
    except (OSError, ValueError, SyntaxError, IndexError) as error:
        raise LplanError(
            f"cannot find {name} in {path}", hint="this transformers is not one lplan was tested with"
        ) from error


def _package() -> Path:
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        raise LplanError("transformers is not installed", hint="pip install transformers")
    return Path(spec.origin).parent
