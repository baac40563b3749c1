"""What is known of LoRA's hyper-parameters: rules with reasons and sources. They warn, and change nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .plan import Advice, Schedule
from .recipe import ATTENTION, Method, Recipe
from .tokens import TokenLengths

_REGRET = "Schulman 2025, thinkingmachines.ai/blog/lora"
_PRIMER = "Thinking Machines, tinker-docs.thinkingmachines.ai/lora-primer"
_LORA = "Hu 2021, arXiv:2106.09685"
_QLORA = "Dettmers 2023, arXiv:2305.14314"
_RSLORA = "Kalajdzievski 2023, arXiv:2312.03732"
_LESS = "Biderman 2024, arXiv:2405.09673"
_REPEATED = "Muennighoff 2023, arXiv:2305.16264"

SMALL_DATA = 5_000
"""Samples below which repeating them is taken to be memorising, not learning: chosen, not measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A run to be judged. `lengths` is None where no data is known."""

    recipe: Recipe
    schedule: Schedule
    trainable_parameters: int
    steps: int
    lengths: TokenLengths | None = None

    @property
    def samples(self) -> int:
        """Training sequences; 0 where no data is known."""
        return len(self.lengths.total) if self.lengths else 0

    @property
    def learned_tokens(self) -> int:
        """Tokens that carry loss, each counted once."""
        return sum(self.lengths.supervised) if self.lengths else 0

    @property
    def passes(self) -> float:
        """How often every sample is seen."""
        return self.steps * self.recipe.effective_batch / self.samples if self.samples else 0.0

    @property
    def scale(self) -> float:
        """What the adapters' output is multiplied by."""
        return self.recipe.alpha / (math.sqrt(self.recipe.rank) if self.recipe.rslora else self.recipe.rank)

    @property
    def learns_everything(self) -> bool:
        """Whether every token carries loss, as in raw text: no instructions, but more pre-training."""
        return self.lengths is not None and self.lengths.supervised == self.lengths.total


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """When something is to be said, what, why, and who found it out."""

    topic: str
    holds: Callable[[Case], bool]
    text: Callable[[Case], str]
    reason: str
    source: str
    methods: tuple[Method, ...] = ("lora", "qlora")
    """What it is about."""


RULES: tuple[Rule, ...] = (
    Rule(
        topic="rank",
        holds=lambda case: 0 < case.trainable_parameters < case.learned_tokens,
        text=lambda case: f"rank {case.recipe.rank} trains {case.trainable_parameters:,} parameters "
        f"on {case.learned_tokens:,} tokens with loss: more rank may learn more",
        reason="LoRA keeps up with full fine-tuning while it has at least as many parameters as there are such tokens",
        source=_PRIMER,
    ),
    Rule(
        topic="rank",
        holds=lambda case: case.recipe.rank > 16 and 0 < 50 * case.learned_tokens < case.trainable_parameters,
        text=lambda case: f"rank {case.recipe.rank} trains {case.trainable_parameters:,} parameters "
        f"on {case.learned_tokens:,} tokens with loss: less rank would do",
        reason="small data sets give the same loss curve at low and high rank; a rank of 1 to 8 can adapt a task",
        source=f"{_LORA}, section 7.2; {_REGRET}",
    ),
    Rule(
        topic="domain",
        holds=lambda case: case.learns_everything and case.recipe.rank < 256,
        text=lambda case: f"every token carries loss, as in continued pre-training, at rank {case.recipe.rank}",
        reason="for a new domain LoRA of usual ranks learns clearly less than full fine-tuning: take 256, or full",
        source=_LESS,
    ),
    Rule(
        topic="target modules",
        holds=lambda case: case.recipe.target_modules == ATTENTION and case.recipe.quantization == "none",
        text=lambda case: "adapters sit on the attention alone: --target-modules all-linear learns more",
        reason="attention-only LoRA falls behind even with as many parameters; it needs less memory and time",
        source=f"{_REGRET}; {_LESS}",
    ),
    Rule(
        topic="target modules",
        holds=lambda case: case.recipe.target_modules == ATTENTION and case.recipe.quantization != "none",
        text=lambda case: "adapters sit on the attention alone over a quantized base: --target-modules all-linear",
        reason="adapters on every linear were needed to match 16-bit fine-tuning",
        source=_QLORA,
    ),
    Rule(
        topic="alpha",
        holds=lambda case: not 0.25 <= case.scale <= (8 if case.recipe.rslora else 4),
        text=lambda case: f"alpha {case.recipe.alpha} at rank {case.recipe.rank} scales adapters by {case.scale:.3g}",
        reason="alpha acts as a learning rate: between a quarter (QLoRA) and about twice the rank (Biderman) is usual",
        source=f"{_LORA}, section 4.1; {_QLORA}; {_LESS}",
    ),
    Rule(
        topic="rsLoRA",
        holds=lambda case: case.recipe.rank >= 64 and not case.recipe.rslora,
        text=lambda case: f"rank {case.recipe.rank} is scaled by alpha / rank: see --rslora on, with a smaller alpha",
        reason="alpha / rank lets the gradients of high ranks collapse, so that they learn no more than low ones",
        source=_RSLORA,
    ),
    Rule(
        topic="dropout",
        holds=lambda case: case.recipe.dropout > 0.1,
        text=lambda case: f"dropout {case.recipe.dropout:g} is much",
        reason="0.1 for models to 13B and 0.05 for larger ones is usual; LoRA forgets less than dropout prevents",
        source=f"{_QLORA}; {_LESS}",
    ),
    Rule(
        topic="learning rate",
        holds=lambda case: case.schedule.learning_rate < 5e-5,
        text=lambda case: f"a learning rate of {case.schedule.learning_rate:g} is low for LoRA: 1e-4 to 5e-4 is usual",
        reason="LoRA's best rate is about ten times that of full fine-tuning, at any rank",
        source=f"{_REGRET}; {_LESS}",
    ),
    Rule(
        topic="learning rate",
        holds=lambda case: case.schedule.learning_rate > 2e-3,
        text=lambda case: f"a learning rate of {case.schedule.learning_rate:g} is high for LoRA: 1e-4 to 5e-4 is usual",
        reason="above the best rate training becomes unstable: take the highest that is still stable",
        source=_LESS,
    ),
    Rule(
        topic="learning rate",
        holds=lambda case: case.schedule.learning_rate > 5e-5,
        text=lambda case: f"a learning rate of {case.schedule.learning_rate:g} is LoRA's, not full fine-tuning's",
        reason="full fine-tuning's best rate is about a tenth of LoRA's",
        source=_REGRET,
        methods=("full",),
    ),
    Rule(
        topic="effective batch",
        holds=lambda case: case.recipe.effective_batch > 32,
        text=lambda case: f"an effective batch of {case.recipe.effective_batch} is large for LoRA: try 32 or less",
        reason="LoRA loses more by large batches than full fine-tuning, and more rank does not help",
        source=_REGRET,
    ),
    Rule(
        topic="steps",
        holds=lambda case: 0 < case.steps < 100 and case.samples > 0,
        text=lambda case: f"{case.steps} optimizer steps are few: a smaller effective batch makes more of them",
        reason="B starts at zero: runs of under about 100 steps want a rate of 15, not 10, times full fine-tuning's",
        source=_REGRET,
    ),
    Rule(
        topic="epochs",
        holds=lambda case: case.passes > 4 and case.samples < SMALL_DATA,
        text=lambda case: f"{case.samples:,} samples are seen {case.passes:.3g} times each: watch the held-out loss",
        reason="up to 4 passes are nearly as good as new data; then their worth decays, and small sets are memorised",
        source=_REPEATED,
        methods=("lora", "qlora", "full"),
    ),
)  # fmt: skip


def advise(case: Case) -> tuple[Advice, ...]:
    """What is worth knowing of a run, in the rules' order."""
    return tuple(
        Advice(topic=rule.topic, text=rule.text(case), reason=rule.reason, source=rule.source)
        for rule in RULES
        if case.recipe.method in rule.methods and rule.holds(case)
    )
