"""The adapter's README.md: what it is, what it was trained on and how, what it can, with which versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..planner.documents import read_plan
from ..planner.evaluation import Evaluated, Share
from ..planner.plan import Plan
from ..profiles.units import format_size

CARD = "README.md"


def write_card(run: Path, evaluated: Evaluated | None) -> None:
    """Write the card beside a run's adapter, in place of PEFT's form with blanks."""
    plan = read_plan(run / "plan.json")
    (run / "adapter" / CARD).write_text(card(plan, evaluated), encoding="utf-8")


def card(plan: Plan, evaluated: Evaluated | None) -> str:
    """The text; its header is YAML as the hub reads it (every value a JSON string, which YAML is a superset of)."""
    parts = [_header(plan), _about(plan), _training(plan)]
    if evaluated is not None:
        parts.append(_metrics(evaluated))
    parts.append(_versions(plan))
    return "\n".join(parts)


def _header(plan: Plan) -> str:
    lines = [
        "---",
        f"base_model: {json.dumps(plan.estimate.model.id)}",
        "library_name: peft" if plan.recipe.adapts else "library_name: transformers",
        "pipeline_tag: text-generation",
        f"tags: {json.dumps(['lplan', 'lora' if plan.recipe.adapts else 'full'])}",
        "---",
        "",
    ]
    return "\n".join(lines)


def _about(plan: Plan) -> str:
    kind = "A LoRA adapter for" if plan.recipe.adapts else "A fine-tuned"
    return f"# {kind} {plan.estimate.model.id}\n\nTrained by lplan inside {_budget(plan)}.\n"


def _budget(plan: Plan) -> str:
    peak = format_size(plan.estimate.peak.peak.expected_bytes)
    return f"{format_size(plan.estimate.budget.budget_bytes)} of memory, {peak} planned"


def _training(plan: Plan) -> str:
    recipe, schedule, data = plan.recipe, plan.schedule, plan.data
    rows = [
        ("trainable parameters", f"{plan.estimate.trainable_parameters:,}"),
        ("rank, alpha, dropout", f"{recipe.rank}, {recipe.alpha}, {recipe.dropout:g}"),
        ("target modules", ", ".join(recipe.target_modules)),
        ("precision", recipe.precision),
        ("micro batch x accumulation", f"{recipe.batch_size} x {recipe.accumulation}"),
        ("tokens a sequence, at most", f"{recipe.seq_len}"),
        ("learning rate, schedule", f"{schedule.learning_rate:g}, {schedule.scheduler}"),
        ("epochs or steps", f"{schedule.max_steps or schedule.epochs:g}"),
        ("seed", f"{schedule.seed}"),
    ]
    if data is not None:
        rows += [
            ("data", f"{Path(data.location).name}, {data.samples:,} examples"),
            ("task", data.task or "none"),
            ("data's SHA-256", f"`{data.fingerprint}`"),
        ]
    return "## Training\n\n" + _table(("", ""), rows)


def _metrics(evaluated: Evaluated) -> str:
    rows = []
    if evaluated.loss is not None:
        loss = evaluated.loss
        before = "" if loss.before is None else f"{loss.before:.3f}"
        rows.append(("held-out loss", f"{loss.samples}", before, f"{loss.after:.3f}"))
    for name, score in (
        (f"task, {evaluated.labels} answers scored", evaluated.scored),
        ("task, generated", evaluated.generated),
        ("general knowledge", evaluated.knowledge),
    ):
        if score is not None:
            before = "" if score.before is None else _share(score.before)
            rows.append((name, f"{score.after.of}", before, _share(score.after)))
    return "## Evaluation\n\n" + _table(("", "asked", "before", "after (95 % interval)"), rows)


def _share(share: Share) -> str:
    return f"{100 * share.share:.1f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def _versions(plan: Plan) -> str:
    return "## Versions\n\n" + _table(("", ""), list(plan.estimate.versions.items()))


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
