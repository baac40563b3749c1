"""What every target needs of a plan: the model by name, modules by name, and what cannot be said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...profiles.units import format_size
from ..foreign import hugging_face as hf
from ..patterns import REGEX
from ..plan import Plan, Schedule
from ..recipe import ADAPTER_KNOBS, ALL_LINEAR, ATTENTION, Recipe
from ..request import parsed

MESSAGES = "train.jsonl"
"""Where scripts and configurations look for the data: JSON lines with a column `messages`."""
OPTIMIZERS = {knob: name for name, knob in list(hf.OPTIMIZERS.items())[::-1]}
"""transformers' name of every optimizer that it has; the first one of several."""
_BESIDE_THE_FILE: Mapping[str, Any] = {"allocator": "default"}
"""What programs do without a word in their files, where that is not the recipe's own default."""
_NOT_COMPARED = frozenset(
    (
        "device",
        "kernel",
        "clipping",
        "threads",
        "pad_to_multiple_of",
        "length_buckets",
        "head_ratio",
        "supervised_len",
        "seq_len",
    )
)
"""Knobs of the machine and of the data: a file may pad otherwise, but not longer than the sequence length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportJob:
    """A plan to be written. `modules` are the linears that get adapters, by the last two parts of their names."""

    plan: Plan
    modules: tuple[str, ...]

    @property
    def recipe(self) -> Recipe:
        """The plan's."""
        return self.plan.recipe

    @property
    def schedule(self) -> Schedule:
        """The plan's; without clipping the largest norm is 0, as the Trainer, axolotl and DeepSpeed have it."""
        schedule = self.plan.schedule
        return schedule if self.recipe.clipping else replace(schedule, max_grad_norm=0.0)

    @property
    def model(self) -> str:
        """The model's folder or hub id."""
        location = self.plan.estimate.model.location
        return str(location) if isinstance(location, Path) else location or self.plan.estimate.model.id

    @property
    def targets(self) -> str | list[str]:
        """PEFT's `target_modules`."""
        names = self.recipe.target_modules
        if names and names[0].startswith(REGEX):
            return names[0].removeprefix(REGEX)
        return "all-linear" if names == ALL_LINEAR else list(self.modules if names == ATTENTION else names)

    def summary(self) -> list[str]:
        """What was planned, for a file's head."""
        estimate, time = self.plan.estimate, self.plan.time
        peak, budget = format_size(estimate.peak.required_bytes), format_size(estimate.budget.budget_bytes)
        said = [f"Planned by lplan for {estimate.model.id}: at most {peak} of {budget}."]
        if time is not None:
            said.append(f"Predicted: {time.steps:,} optimizer steps of {time.step_s:.3g} s.")
        return said

    def unsaid(self, read: Mapping[str, Any], **beside: Any) -> dict[str, str]:
        """Knobs that a program takes otherwise than planned, with what it takes.

        `read` is what our own reader makes of the file; `beside` what the program does without a word in it.
        """
        plain = Recipe(device=self.recipe.device, kernel=self.recipe.kernel, allocator="default")
        taken = {**plain.to_dict(), **_BESIDE_THE_FILE, **_knobs(read), **beside}
        differing = {}
        for knob in self.recipe.to_dict():
            planned = self.planned(knob)
            packed = knob == "padding" and planned == "packed"
            if (knob in _NOT_COMPARED and not packed) or not self._matters(knob):
                continue
            if not _agree(planned, taken[knob]):
                differing[knob] = f"{_shown(planned)} is planned, {_shown(taken[knob])} is what it takes"
        return differing

    @property
    def max_grad_norm(self) -> float:
        """Where gradients are clipped; 0 for not at all."""
        return self.schedule.max_grad_norm if self.recipe.clipping else 0.0

    def planned(self, knob: str) -> Any:
        """A knob's value as JSON has it, modules by name wherever they can be listed."""
        if knob == "target_modules" and isinstance(self.targets, list):
            return self.targets
        return self.recipe.to_dict()[knob]

    def _matters(self, knob: str) -> bool:
        if knob == "padding":
            return self.recipe.padding == "packed"
        if knob in (*ADAPTER_KNOBS, "adapter_dtype", "input_casting"):
            return self.recipe.adapts
        return knob != "kbit_preparation" or self.recipe.quantization != "none"


def _knobs(read: Mapping[str, Any]) -> dict[str, Any]:
    """A reader's values as a recipe has them. Defaults of the program that depend on the checkpoint have no name."""
    known = {name: value for name, value in read.items() if value is not None}
    known.setdefault("attention", "sdpa")
    known.setdefault("quantization", "none")
    known.setdefault("adapter_dtype", "fp32")
    known.setdefault("precision", "the checkpoint's own")
    known["accumulation"] = known["effective_batch"] // known["batch_size"]
    known = {name: parsed(name, value) for name, value in known.items()}
    return {name: dict(value) if name.endswith("_pattern") else value for name, value in known.items()}


def _agree(planned: Any, taken: Any) -> bool:
    if isinstance(planned, list):
        return sorted(planned) == sorted(taken)
    return bool(planned == taken)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple, dict)):
        return ", ".join(map(str, value)) or "none"
    return str(value)
