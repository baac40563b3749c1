"""A merged checkpoint against its base with the adapter beside it: one after the other, never both in memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..profiles.errors import LplanError
from .evaluation.adapters import with_adapter
from .merging import MergePlan, merge, plan_merge

_TOKENS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Differences of logits at the same tokens in their standard deviations, and how often the likeliest agrees."""

    mean: float
    largest: float
    top_share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """A merge: stated and measured peak of the process's resident memory, and the comparison, if it was made."""

    base: str
    adapter: str
    folder: str
    plan: MergePlan
    measured_bytes: int | None
    agreement: Agreement | None

    def document(self) -> dict[str, Any]:
        """`lplan merge --json`."""
        return {"schema": "lplan.merge/1", **asdict(self)}


def merge_and_check(
    base: Path,
    adapter: Path,
    output: Path,
    *,
    libraries_bytes: int,
    ram_bytes: int | None,
    check: bool,
    on_plan: Callable[[MergePlan], object] = lambda _: None,
) -> Merged:
    """Merge, measure, reload and compare. Raises LplanError where the merged model answers otherwise."""
    plan = plan_merge(base, adapter, libraries_bytes=libraries_bytes, ram_bytes=ram_bytes)
    on_plan(plan)
    merge(base, adapter, output, plan=plan)
    measured = _high_water_bytes()
    return Merged(
        base=str(base),
        adapter=str(adapter),
        folder=str(output),
        plan=plan,
        measured_bytes=measured,
        agreement=compare(base, adapter, output) if check else None,
    )


def compare(base: Path, adapter: Path, merged: Path) -> Agreement:
    """The two models' logits at the same random tokens. Raises LplanError when they differ by more than rounding."""
    expected = _logits(lambda: with_adapter(_loaded(base), adapter))
    found = _logits(lambda: _loaded(merged))
    scale = float(expected.std())
    agreement = Agreement(
        mean=float((expected - found).abs().mean()) / scale,
        largest=float((expected - found).abs().max()) / scale,
        top_share=float((expected.argmax(-1) == found.argmax(-1)).float().mean()),
    )
    if not agreement.mean < 0.1:  # rounding in bf16 stays under a few hundredths; NaN must not pass
        raise LplanError(
            f"the merged model answers otherwise than base and adapter: logits differ by {agreement.mean:.2f} "
            "standard deviations",
            hint="was the adapter trained on this base?",
        )
    return agreement


def _loaded(folder: Path) -> nn.Module:
    from transformers import AutoModelForCausalLM

    model: nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", use_safetensors=True)
    return model.eval()


def _logits(make: Callable[[], nn.Module]) -> torch.Tensor:
    model: Any = make()
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(vocabulary, (1, _TOKENS), generator=generator)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids).logits[0].float()
    del model
    gc.collect()
    return logits


def _high_water_bytes() -> int | None:
    from .process_tree import usage_of

    usage = usage_of("self")
    return None if usage is None else usage.high_water_bytes
