"""Greedy or sampled generation, a token at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

Ids = tuple[int, ...]


def generate(
    model: nn.Module,
    prompt: Ids,
    *,
    most: int,
    stop: frozenset[int],
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[int]:
    """Tokens behind a prompt as they are made, at most `most`, without the one that stops.

    Temperature 0 takes the likeliest token; above it tokens are drawn, the same for the same seed.
    """
    device = next(model.parameters()).device
    dice = torch.Generator(device=device).manual_seed(seed)
    ids, cache = torch.tensor([prompt], device=device), None
    for _ in range(most):
        with torch.no_grad():
            output: Any = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits = output.logits[0, -1].float()
        if temperature > 0:
            token = int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=dice))
        else:
            token = int(logits.argmax())
        del output
        if token in stop:
            return
        yield token
        ids = torch.tensor([[token]], device=device)


def stop_tokens(model: nn.Module, answers: tuple[Ids, ...] = ()) -> frozenset[int]:
    """What ends an answer: the model's own end tokens, and the token that all given answers end with."""
    ends = {answer[-1] for answer in answers}
    own: Any = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    stop = set(own) if isinstance(own, list) else {own}
    if len(ends) == 1:
        stop |= ends
    return frozenset(token for token in stop if token is not None)
