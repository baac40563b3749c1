"""What older library versions did otherwise, where that is one clean rule: applied to the traced model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lplan.planner.tracing import trace as trace_module

SHIFTED = "shifted logits"
"""transformers 4.46 to 4.48: `ForCausalLMLoss` copies the logits but the last of each sequence, in fp32."""
EARLY_FLOAT = "early float"
"""transformers before 4.46: the model itself turns the logits to fp32, and the 16-bit ones are gone before the loss."""
TRL_CASTS = "TRL casts"
"""TRL's `peft_module_casting_to_bf16` on a 4-bit base under bf16: embeddings and head to bf16."""


@contextmanager
def applied(rules: Sequence[str]) -> Iterator[None]:
    """A context in which models are wrapped as the rules say."""
    original = trace_module.wrap

    def wrap(model: nn.Module, recipe: Any) -> nn.Module:
        wrapped = original(model, recipe)
        for rule in rules:
            _RULES[rule](wrapped)
        return wrapped

    trace_module.wrap = wrap
    try:
        yield
    finally:
        trace_module.wrap = original


def _shifted(model: nn.Module) -> None:
    def loss(logits: Tensor, labels: Tensor, vocab_size: int, **_: Any) -> Tensor:
        wide = logits.float()
        kept = wide[..., :-1, :].contiguous().view(-1, vocab_size)
        return F.cross_entropy(kept, labels[..., 1:].contiguous().view(-1))

    _base(model).loss_function = loss


def _early_float(model: nn.Module) -> None:
    head = _base(model).get_output_embeddings()
    head.register_forward_hook(lambda _module, _args, output: output.float())


def _trl_casts(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if ".lora_" not in name and any(part in name for part in ("lm_head", "embed_tokens")):
            parameter.data = parameter.data.to(torch.bfloat16)


def _base(model: nn.Module) -> Any:
    inner = getattr(model, "get_base_model", None)
    return model if inner is None else inner()


_RULES = {SHIFTED: _shifted, EARLY_FLOAT: _early_float, TRL_CASTS: _trl_casts}
