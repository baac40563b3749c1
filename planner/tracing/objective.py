"""The loss of a causal language model, and how much of the logits exists at once. Traced and trained alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...profiles.errors import UsageError
from ..recipe import LOSS_CHUNK, Loss
from .fused import fused_loss

IGNORED = -100


def supervised_positions(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(positions, targets) of the tokens that carry loss.

    labels: (B, S) with -100 for no loss. positions: (N,) indices into the flattened (B * S) hidden states
    that predict them; targets: (N,) token ids.
    """
    targets = F.pad(labels[:, 1:], (0, 1), value=IGNORED).reshape(-1)
    positions = (targets != IGNORED).nonzero().squeeze(1)
    return positions, targets[positions]


class Objective:
    """Computes the training loss by one of four paths that agree to rounding.

    full: the model's own loss over the logits of all positions. supervised: the output head sees only
    positions that carry loss. chunked: those, LOSS_CHUNK at a time, recomputed in backward.
    fused: Liger's kernel from the hidden states of all positions, which makes the gradients in the forward pass.
    """

    def __init__(self, loss: Loss, chunk: int = LOSS_CHUNK) -> None:
        self.loss = loss
        self.chunk = chunk

    def __call__(
        self, model: nn.Module, batch: Mapping[str, Any], items: Tensor | int | None = None
    ) -> Tensor:
        """Scalar loss. `batch` has input_ids (B, S), maybe attention_mask, and labels or (positions, targets).

        `items`: supervised tokens of the whole optimizer step; None takes the mean over this micro batch.
        """
        if self.loss == "full":
            extra = {} if items is None else {"num_items_in_batch": items}
            loss: Tensor = model(**batch, **extra).loss
            return loss
        inputs = {key: value for key, value in batch.items() if key not in ("labels", "positions", "targets")}
        if self.loss == "fused":
            return self._fused(model, inputs, batch["labels"], items)
        if "positions" in batch:
            positions, targets = batch["positions"], batch["targets"]
        else:
            positions, targets = supervised_positions(batch["labels"])
        count = items if items is not None else (targets != IGNORED).sum()
        if self.loss == "supervised":
            return self._selected(model, inputs, positions, targets) / count
        return self._chunked(model, inputs, positions, targets) / count

    def _selected(
        self, model: nn.Module, inputs: Mapping[str, Any], positions: Tensor, targets: Tensor
    ) -> Tensor:
        def select(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            return (args[0].flatten(0, -2).index_select(0, positions),)

        with _Hooked(output_head(model).register_forward_pre_hook(select)):
            logits = model(**inputs).logits
        return _summed_cross_entropy(logits, targets)

    def _chunked(
        self, model: nn.Module, inputs: Mapping[str, Any], positions: Tensor, targets: Tensor
    ) -> Tensor:
        head = output_head(model)
        hidden = _before_head(model, inputs, lambda states: states.index_select(0, positions))
        losses = [
            checkpoint(_head_loss, head, rows, target, use_reentrant=False)
            for rows, target in zip(hidden.split(self.chunk), targets.split(self.chunk), strict=True)
        ]
        return torch.stack(losses).sum()

    def _fused(
        self, model: nn.Module, inputs: Mapping[str, Any], labels: Tensor, items: Tensor | int | None
    ) -> Tensor:
        head = output_head(model)
        head = next(iter(getattr(head, "modules_to_save", {}).values()), head)
        if hasattr(head, "lora_A"):
            raise UsageError(
                "the fused loss reads the output head's weight, past adapters on it",
                hint="take --loss chunked, or leave the head out of --target-modules",
            )
        targets = F.pad(labels[:, 1:], (0, 1), value=IGNORED).reshape(-1)
        hidden = _before_head(model, inputs, lambda states: states)
        count = items if items is not None else (targets != IGNORED).sum()
        if hidden.is_cuda:
            from liger_kernel.ops.fused_linear_cross_entropy import (  # type: ignore[import-not-found,unused-ignore]
                LigerFusedLinearCrossEntropyFunction,
            )

            answer = LigerFusedLinearCrossEntropyFunction.apply(
                hidden, head.weight, targets, head.bias, None, IGNORED, 0.0, 0.0, "sum"
            )
            return answer[0] / count  # type: ignore[no-any-return]
        return fused_loss(hidden, head.weight, self.chunk) / count


def _before_head(model: nn.Module, inputs: Mapping[str, Any], select: Callable[[Tensor], Tensor]) -> Tensor:
    """What the head is given, (B * S, H), as `select` takes of it; the head itself sees one row."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        kept.append(select(args[0].flatten(0, -2)))
        return (kept[0][:1],)

    with _Hooked(output_head(model).register_forward_pre_hook(keep)):
        model(**inputs)
    return kept.pop()


def head_of(model: nn.Module) -> Any:
    """The module that turns hidden states into logits; None where the model has no such module."""
    try:
        head = model.get_output_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None
    return head if isinstance(getattr(as_built(head), "weight", None), Tensor) else None


def as_built(module: Any) -> Any:
    """The module that PEFT's wrappers, which make weights anew when they are asked for them, are around."""
    while True:
        inner = getattr(module, "original_module", None) or getattr(module, "base_layer", None)
        if inner is None:
            return module
        module = inner


def output_head(model: nn.Module) -> Any:
    """The module that turns hidden states into logits. Raises ValueError where the model has none."""
    head = head_of(model)
    if head is None:
        raise ValueError(f"{type(model).__name__} has no output embeddings")
    return head


@contextmanager
def watch_logits(model: nn.Module) -> Iterator[list[int]]:
    """Collects the identities of what the output head returns, to tell whether anything follows the head."""
    made: list[int] = []
    with _Hooked(output_head(model).register_forward_hook(lambda _m, _a, output: made.append(id(output)))):
        yield made


class _Hooked:
    """Removes a hook at the end of a with block."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def _head_loss(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    return _summed_cross_entropy(head(hidden), targets)


def _summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), targets, reduction="sum")
