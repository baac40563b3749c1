"""The traced step run for real: the same code under the same tracker, with tensors that have contents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.contents import experts_of
from lplan.planner.tracing.device import StandIn, on_device, prepare_device
from lplan.planner.tracing.model import build, make_config, wrap
from lplan.planner.tracing.step import TracedStep
from lplan.planner.tracing.tracker import StorageTracker

VOCABULARY = 300
"""Tokens of every small model."""
_PADDED = 5
"""Tokens of padding in the first row of a padded batch."""
_PACKED = 24
"""Tokens of every sequence in a packed row."""


def make_model(config: Mapping[str, Any], recipe: Recipe, device: str = "cpu") -> nn.Module:
    """The wrapped model with weights of its own initialisation."""
    with on_device(device):
        return wrap(build(make_config(config), recipe), recipe)


class _WatchingTracker(StorageTracker):
    """Lets the tensors answer for themselves."""

    answers = False


class _RealStep(TracedStep):
    """The traced step with tokens: padded rows where the recipe says so, loss on as many as the shape says."""

    def _batch(self) -> dict[str, Tensor]:
        batch = super()._batch()
        batch["input_ids"].random_(3, VOCABULARY)
        if "position_ids" in batch:
            batch["position_ids"] += torch.arange(self.shape.seq).remainder(_PACKED)
        if "attention_mask" in batch:
            batch["attention_mask"].fill_(1)[0, -_PADDED:] = 0
        if "positions" in batch:
            torch.arange(self.shape.supervised, out=batch["positions"])
        return batch


def real_peaks(config: Mapping[str, Any], recipe: Recipe, shape: Shape) -> dict[str, int]:
    """Peak bytes of live storages in every phase of a step that really computes."""
    torch.manual_seed(0)
    tracker = _WatchingTracker(mask_is_full=recipe.padding == "none")
    _RealStep(make_model(config, recipe), recipe, shape, tracker).run()
    return live_peaks(tracker)


def traced_peaks(
    config: Mapping[str, Any], recipe: Recipe, shape: Shape, stand_in: StandIn = "meta"
) -> dict[str, int]:
    """The same of a step that only pretends to."""
    model = make_model(config, recipe, "meta")
    tracker = StorageTracker(mask_is_full=recipe.padding == "none", experts=experts_of(model.config))
    with prepare_device(model, recipe, stand_in):
        TracedStep(model, recipe, shape, tracker).run()
    return live_peaks(tracker)


def live_peaks(tracker: StorageTracker) -> dict[str, int]:
    """Peak bytes of live storages by phase of a run."""
    live, peaks = 0, {"first step": 0, "steady step": 0, "evaluation": 0}
    for segment in tracker.segments:
        for event in segment.events:
            size_bytes = tracker.storages[abs(event) - 1].size_bytes
            live += size_bytes if event > 0 else -size_bytes
            if segment.phase in peaks:
                peaks[segment.phase] = max(peaks[segment.phase], live)
    return peaks
