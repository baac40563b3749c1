"""A merged checkpoint against PEFT's merge and against its base with the adapter beside it; one model at a time.

Rounding the merged weights moves logits, and on text whose next token is anyone's guess it changes the likeliest: that
tells nothing of a merge. What tells is each weight, which PEFT's own merge must reach within a step of rounding.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from ...profiles.checkpoint import SAFETENSORS, weight_names
from ...profiles.errors import LplanError
from ..data.tokenizer import load_tokenizer
from ..evaluation.adapters import with_adapter
from ..evaluation.answering import load_plain
from ..evaluation.questions import general_knowledge
from ..process_tree import usage_of
from .files import opened, skeleton
from .merge import MergePlan, merge, plan_merge

_TOKENS = 192
_STEPS = 2.0
"""PEFT adds its update in 16 bits where the adapter is in 16 bits, and we in 32: a step of rounding either way."""
_NOISE = 2.0**-18
"""Of a tensor's largest value: what sums in fp32 differ by where they all but cancel."""
_OFF = 0.1
"""Standard deviations of logits that rounding may move them by, whatever the adapter does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """A merged checkpoint beside its base with the adapter, on the same text.

    Differences of logits are in their standard deviations; `moves` is the adapter's own, to compare with.
    """

    weights: int
    """Tensors compared with PEFT's merge."""
    steps: float
    """The largest difference of a weight there, in units of its last place."""
    mean: float
    largest: float
    moves: float
    top_share: float
    """Of positions whose likeliest token agrees."""
    tokens: int
    text: bool
    """Of text; False where there is no tokenizer, and the tokens are random."""


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
    """Merge, measure, reload and compare. Raises LplanError where the merged model is another."""
    plan = plan_merge(base, adapter, libraries_bytes=libraries_bytes, ram_bytes=ram_bytes)
    on_plan(plan)
    merge(base, adapter, output, plan=plan)
    usage = usage_of("self")
    return Merged(
        base=str(base),
        adapter=str(adapter),
        folder=str(output),
        plan=plan,
        measured_bytes=None if usage is None else usage.high_water_bytes,
        agreement=compare(base, adapter, output) if check else None,
    )


def compare(base: Path, adapter: Path, merged: Path) -> Agreement:
    """Weights against PEFT's merge, logits on text. Raises LplanError where they differ by more than rounding."""
    ids, is_text = _tokens(base)
    model: Any = with_adapter(load_plain(base), adapter)
    adapted = _logits(model, ids)
    with model.disable_adapter():
        plain = _logits(model, ids)
    steps = dict(_steps(model.merge_and_unload(), merged, _tied_apart(base, merged)))
    del model
    gc.collect()
    found = _logits(load_plain(merged), ids)
    scale = float(adapted.std())
    agreement = Agreement(
        weights=len(steps),
        steps=max(steps.values(), default=0.0),
        mean=float((adapted - found).abs().mean()) / scale,
        largest=float((adapted - found).abs().max()) / scale,
        moves=float((adapted - plain).abs().mean()) / scale,
        top_share=float((adapted.argmax(-1) == found.argmax(-1)).float().mean()),
        tokens=len(ids),
        text=is_text,
    )
    _require(agreement, steps)
    return agreement


def _require(agreement: Agreement, steps: dict[str, float]) -> None:
    """Raises LplanError; comparisons are such that a NaN does not pass."""
    worst = next((name for name, value in steps.items() if not value <= _STEPS), None)
    if worst is not None:
        raise LplanError(
            f"the merged {worst} is not what PEFT makes of base and adapter: they differ by "
            f"{steps[worst]:.0f} units in the last place",
            hint="keep base and adapter apart, and report this: the merge is wrong",
        )
    if not agreement.mean <= max(_OFF, agreement.moves / 2):
        raise LplanError(
            f"the merged model answers otherwise than base and adapter: logits differ by {agreement.mean:.2f} "
            f"standard deviations, where the adapter itself moves them by {agreement.moves:.2f}",
            hint="was the adapter trained on this base?",
        )


def _tied_apart(base: Path, merged: Path) -> frozenset[str]:
    """The weights that were one tensor in the base: PEFT changes both together, which the model never did."""
    before, after = skeleton(base), skeleton(merged)
    if before.head is None or after.head is not None:
        return frozenset()
    return frozenset((f"{before.embeddings}.weight", f"{before.head}.weight"))


def _steps(whole: nn.Module, merged: Path, apart: frozenset[str]) -> Iterator[tuple[str, float]]:
    """Tensors of the merged files that PEFT's merge has under the same name, and how far apart they are."""
    wanted = whole.state_dict()
    for path in weight_names(merged, SAFETENSORS):
        with opened(path) as tensors:
            for name in tensors.keys():  # noqa: SIM118 - a safetensors file, not a mapping
                shape = tensors.get_slice(name).get_shape()
                if name in wanted and name not in apart and list(wanted[name].shape) == shape:
                    yield name, steps_apart(wanted[name].cpu(), tensors.get_tensor(name))


def steps_apart(wanted: Tensor, found: Tensor) -> float:
    """The largest difference of two tensors in units of the last place of `found`, of what may cancel apart."""
    if not found.is_floating_point() or not found.numel():
        return float(not torch.equal(wanted, found)) * float("inf") if found.numel() else 0.0
    exact = wanted.to(found.dtype).float()
    _, exponents = torch.frexp(exact)
    unit = torch.ldexp(torch.full_like(exact, torch.finfo(found.dtype).eps), exponents - 1)
    return float(((exact - found.float()).abs() / (unit + _NOISE * exact.abs().max())).max())


def _tokens(base: Path) -> tuple[list[int], bool]:
    """Text of general knowledge in the base's tokens, or as many random ones."""
    config = AutoConfig.from_pretrained(base).get_text_config()
    most = min(_TOKENS, getattr(config, "max_position_embeddings", None) or _TOKENS)
    try:
        questions = general_knowledge(load_tokenizer(base))
    except LplanError:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(config.vocab_size, (most,), generator=generator).tolist(), False
    return [token for one in questions for token in (*one.prompt, *one.choices[one.right])][:most], True


def _logits(model: nn.Module, ids: list[int]) -> Tensor:
    device = next(model.parameters()).device
    with torch.no_grad():
        output: Any = model(input_ids=torch.tensor([ids], device=device))
    logits: Tensor = output.logits[0].float().cpu()
    return logits
