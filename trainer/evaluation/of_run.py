"""Evaluations of runs: a short one at the end of training, and a whole one of a finished run folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...planner.documents import read_plan
from ...planner.evaluation import MAX_FORGETTING, Evaluated, write_evaluation
from ...planner.plan import DataReference
from ...profiles.errors import LplanError, UsageError
from ...profiles.model import ModelProfile
from ..data.readers import read_examples
from ..data.tasks import find_task
from ..data.tokenizer import load_tokenizer
from ..job import Job
from ..model_card import write_card
from ..prepare import spread_out, tokenizer_of
from .questions import QuestionSet, make_questions

SHARE_OF_TRAINING, LEAST_S = 0.1, 20.0
"""The evaluation at the end of a run takes at most about so much of the time that training took; in a very short
one so many seconds, or nothing would be asked."""
_SHORT_SAMPLES = 512
"""Held-out examples at hand for it; time decides how many of them are asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What `lplan evaluate` was asked for."""

    samples: int | None = None
    """Held-out examples, evenly spread; None for all."""
    generated: bool = False
    max_forgetting: float = MAX_FORGETTING
    seed: int = 0


def questions_of(
    reference: DataReference, model: ModelProfile, *, samples: int | None, seed: int = 0
) -> QuestionSet:
    """The test split (without one, the validation split) of a plan's data, and the general knowledge.

    Raises UsageError or LplanError where data or tokenizer are gone.
    """
    data = read_examples(reference.location, task=reference.task)
    held_out = data.test or data.validation
    tokenizer = load_tokenizer(tokenizer_of(model), trust_remote_code=model.trust_remote_code)
    some = spread_out(held_out, samples or len(held_out))
    task = find_task(reference.task)
    return make_questions(some, task, tokenizer, max_length=reference.longest_tokens, seed=seed)


def prepare_short(reference: DataReference | None, model: ModelProfile, folder: Path) -> None:
    """Put the questions of the evaluation at the end into a run folder."""
    if reference is not None:
        questions_of(reference, model, samples=_SHORT_SAMPLES).write(folder)


def evaluate_briefly(folder: Path, model: Any, job: Job, trained_s: float) -> str | None:
    """The evaluation at the end of training, within a tenth of its time; what came out, in a sentence.

    An evaluation that fails is told, and takes nothing from the run.
    """
    from .evaluate import Extent, evaluate

    try:
        questions = QuestionSet.read(folder)
        if questions is None:
            return None
        write_card(folder, None)
        plan = read_plan(folder / "plan.json")
        extent = Extent(
            rows=job.recipe.batch_size, seconds=max(LEAST_S, SHARE_OF_TRAINING * trained_s), samples=1
        )
        evaluated = evaluate(
            model,
            questions,
            job.recipe,
            extent,
            name=plan.estimate.model.id,
            task=plan.data.task if plan.data is not None else None,
            max_forgetting=MAX_FORGETTING,
            decode=load_tokenizer(tokenizer_of(plan.estimate.model)).decode,  # type: ignore[attr-defined]
        )
        write_evaluation(evaluated, folder)
        write_card(folder, evaluated)
    except Exception as error:
        return f"the evaluation failed: {type(error).__name__}: {error}"
    return sentence(evaluated)


def sentence(evaluated: Evaluated) -> str:
    """The gist of an evaluation."""
    parts = []
    for what, score in (("task", evaluated.scored), ("general knowledge", evaluated.knowledge)):
        if score is not None:
            before = f"{score.before.share:.0%} before, " if score.before is not None else ""
            parts.append(f"{what}: {before}{score.after.share:.0%} after, of {score.after.of}")
    return "evaluated: " + ("; ".join(parts) or "nothing to ask")


def require_evaluable(folder: Path) -> None:
    """Raises UsageError for a folder without a finished run, LplanError for one that was planned without data."""
    from .adapters import find_source

    if not (folder / "plan.json").is_file() or not (folder / "job.json").is_file():
        raise UsageError(f"{folder} is no run folder", hint="runs are made by lplan fit-and-train")
    find_source(folder)
    if read_plan(folder / "plan.json").data is None:
        raise LplanError(f"{folder} was planned without data", hint="there is nothing to evaluate on")


def evaluate_run(
    folder: Path, wanted: Wanted, enter: Callable[[str], object] = lambda phase: None
) -> Evaluated:
    """Evaluate a run's adapter against its base and write evaluation.json; `enter` hears of the phases.

    Raises UsageError for a folder without a finished run, LplanError where its model or data are gone.
    """
    import torch

    from .adapters import load_run
    from .evaluate import Extent, evaluate

    require_evaluable(folder)
    plan, job = read_plan(folder / "plan.json"), Job.read(folder)
    assert plan.data is not None
    questions = questions_of(plan.data, plan.estimate.model, samples=wanted.samples, seed=wanted.seed)
    torch.set_num_threads(job.recipe.threads)
    tokenizer = load_tokenizer(tokenizer_of(plan.estimate.model))
    enter("load")
    model = load_run(folder, job)
    enter("evaluation")
    evaluated = evaluate(
        model,
        questions,
        job.recipe,
        Extent(rows=job.recipe.batch_size, generated=wanted.generated),
        name=plan.estimate.model.id,
        task=plan.data.task,
        max_forgetting=wanted.max_forgetting,
        decode=tokenizer.decode,  # type: ignore[attr-defined]
    )
    write_evaluation(evaluated, folder)
    write_card(folder, evaluated)
    return evaluated
