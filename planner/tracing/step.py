"""Runs the real training step of a wrapped model under a tracker, marking phases, stages and layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..estimate import STEPS
from ..polynomial import Shape
from ..recipe import Recipe
from .gathering import Kept, kept, predicted, returned
from .loading import LOAD, Loading, layer_of
from .model import decoder_layers
from .objective import Objective, head_of, watch_logits
from .offload import HostOptimizer, offloading, saving
from .optimizers import make_optimizer
from .tracker import StorageTracker


class TracedStep:
    """The step of `planner.recipe.Recipe` on a model, at one batch shape."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        shape: Shape,
        tracker: StorageTracker,
        steps: Sequence[str] = STEPS,
    ) -> None:
        self.model, self.recipe, self.shape, self.tracker, self.steps = model, recipe, shape, tracker, steps
        self.objective = Objective(recipe.loss, shape.chunk)
        self.layers = decoder_layers(model)
        self.phase = LOAD
        self.logits_untouched = False
        self.gathered: tuple[Kept, ...] = ()
        self.device = next(model.parameters()).device

    def run(self) -> None:
        """Weights, the optimizer steps, one evaluation batch."""
        Loading(self.model, self.recipe, self.tracker).run()
        optimizer = self._optimizer()
        with offloading(self.model, self.recipe, self.tracker), self.tracker, self._layer_marks():
            for phase in self.steps:
                self.phase = phase
                for _ in range(self.recipe.accumulation):
                    held = self._micro_batch()
                self._optimizer_step(optimizer)
                held.clear()
            self.phase = "evaluation"
            gathered = self._evaluation()
            self.gathered = kept(gathered)
            self._check_head()
            del gathered

    def _optimizer(self) -> torch.optim.Optimizer:
        if "optimizer" in self.recipe.offload:
            return HostOptimizer(self.model, self.tracker)
        return make_optimizer(self.model, self.recipe)

    def trainable(self) -> list[nn.Parameter]:
        """Parameters with gradients, in the model's order."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def _micro_batch(self) -> list[Any]:
        """Forward and backward; what a plain loop still holds of it."""
        self.tracker.enter(self.phase, "batch")
        batch = self._batch()
        self.tracker.enter(self.phase, "forward")
        saved = saving(self.recipe, self.tracker)
        with saved, autocast(self.recipe), kept_outputs(self.model, self.recipe) as held:
            loss = self.objective(self.model, batch)
        del batch
        loss.backward()
        del loss
        self.tracker.enter(self.phase, "after backward")
        return held

    def _evaluation(self) -> list[Tensor]:
        """One batch; what is kept of it."""
        self.model.eval()
        self.tracker.enter(self.phase, "batch")
        batch = self._batch()
        self.tracker.enter(self.phase, "forward")
        with torch.no_grad():
            if self.recipe.eval_logits != "none":
                with autocast(self.recipe):
                    outputs = returned(self.model(**batch), self.recipe)
                return predicted(outputs, self.model.config, batch["labels"], self.recipe)
            with autocast(self.recipe):
                self.objective(self.model, batch)
        return []

    def _check_head(self) -> None:
        """Whether the model's logits are the head's own output, as the chunked loss assumes."""
        self.phase = "end"
        self.tracker.enter(self.phase, "end")
        if head_of(self.model) is None:
            return
        ids = torch.zeros((1, 2), dtype=torch.long, device=self.device)
        with torch.no_grad(), watch_logits(self.model) as made:
            logits = self.model(input_ids=ids).logits
        self.logits_untouched = id(logits) == made[-1]

    def _optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                self.tracker.adopt([parameter.grad], "gradients", layer_of(name))
        self.tracker.enter(self.phase, "optimizer")
        if self.recipe.clipping and self.recipe.loop == "trainer":
            torch.nn.utils.clip_grad_norm_(self.trainable(), 1.0)
        optimizer.step()
        for name, parameter in self.model.named_parameters():
            states = [v for v in optimizer.state.get(parameter, {}).values() if isinstance(v, Tensor)]
            if not isinstance(optimizer, HostOptimizer):
                self.tracker.adopt(states, "optimizer", layer_of(name))
        self.tracker.enter(self.phase, "zero")
        optimizer.zero_grad(set_to_none=True)

    def _batch(self) -> dict[str, Tensor]:
        def zeros(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.long, device=self.device)

        shape = self.shape
        rows = (1 if self.recipe.padding == "packed" else shape.batch, shape.seq)
        batch = {"input_ids": zeros(*rows), "labels": zeros(*rows)}
        if self.recipe.padding == "padded" and self.recipe.attention != "flash":
            batch["attention_mask"] = zeros(*rows)
        if self.recipe.padding == "packed":
            batch["position_ids"] = zeros(*rows)
        if self.recipe.loss in ("supervised", "chunked"):
            batch |= {"positions": zeros(shape.supervised), "targets": zeros(shape.supervised)}
        return batch

    @contextmanager
    def _layer_marks(self) -> Iterator[None]:
        handles = []
        for index, layer in enumerate(self.layers):
            handles.append(layer.register_forward_pre_hook(self._mark_forward(index)))
            handles.append(layer.register_forward_hook(self._mark_end(index)))
        yield
        for handle in handles:
            handle.remove()

    def _mark_forward(self, index: int) -> Callable[..., None]:
        return lambda *_: self.tracker.enter(self.phase, "forward", index)

    def _mark_end(self, index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, (tuple, list)) else output
            if isinstance(hidden, Tensor) and hidden.requires_grad:
                hidden.register_hook(lambda _grad: self.tracker.enter(self.phase, "backward", index))
            if index == len(self.layers) - 1:
                self.tracker.enter(self.phase, "head")

        return hook


@contextmanager
def kept_outputs(model: nn.Module, recipe: Recipe) -> Iterator[list[Any]]:
    """Collects the model's outputs where the recipe's loop holds them."""
    held: list[Any] = []
    if recipe.loop == "trainer":
        yield held
        return
    handle = model.register_forward_hook(lambda _module, _args, output: held.append(output))
    yield held
    handle.remove()


def autocast(recipe: Recipe, device: str = "cpu") -> Any:
    """The precision's context around the forward pass. Tensors without storage are cast as a CPU's."""
    dtype = recipe.autocast_dtype
    return nullcontext() if dtype is None else torch.autocast(device, getattr(torch, dtype))
