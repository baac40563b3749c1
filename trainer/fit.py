"""Runs a plan: fills the run folder, starts the worker inside the budget, returns how it ended."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ..planner.allocator import environment_of
from ..planner.cuda import context_bytes
from ..planner.documents import read_plan, write_plan
from ..planner.estimate import REHEARSAL, Estimate, with_rehearsal
from ..planner.estimating import is_mapped
from ..planner.events import Event, Outcome, PhasePeak, read
from ..planner.plan import Plan
from ..planner.recipe import Device, Recipe
from ..planner.replay import require_memory, within
from ..profiles.errors import LplanError, UsageError
from .evaluation.of_run import prepare_short
from .job import JOB, DeviceBudget, Job, TokenFile
from .limit import ON_A_GPU, STRATEGIES
from .prepare import Prepared
from .recovery import ATTEMPTS, TRIES, Recovery
from .retry import Retry, RunFacts, Tell
from .run_folder import RunFolder
from .supervise import GRACE_S, supervise

_GRACE_STEPS = 3
"""A worker that is asked to leave finishes its step: so many planned ones are waited for, as machines get busy."""


@contextmanager
def reserved_folder(path: Path) -> Iterator[RunFolder]:
    """A new run folder, made before anything is planned; gone again, parents too, if no run began in it.

    Raises UsageError for a place where none can be made.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    folder = RunFolder.create(path)
    try:
        yield folder
    finally:
        if not folder.events.exists():
            _empty(path)
            for made in missing:
                with suppress(OSError):
                    made.rmdir()


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def store(data: Prepared, folder: RunFolder) -> int:
    """Write a run's tokens, which the worker maps; the filler's id. Nobody need hold them in memory any longer."""
    TokenFile(folder.path, "train").write(data.train)
    TokenFile(folder.path, "validation").write(data.validation)
    return data.pad_token_id


def run_plan(
    plan: Plan,
    pad_token_id: int,
    folder: RunFolder,
    on_event: Callable[[Event], object],
    *,
    checkpoint_steps: int = 0,
    tries: int = TRIES,
    report_to: Sequence[str] = (),
    rehearse: bool = True,
    given: Collection[str] | None = None,
) -> Outcome:
    """Train as planned, on the tokens that were stored.

    Every event goes to events.jsonl and to `on_event`, metrics to the trackers `report_to`.
    `given`: the knobs that stay when the room that a rehearsal leaves is used; None where it is not.
    """
    recipe, model = plan.recipe, plan.estimate.model
    write_plan(plan, folder.plan)
    prepare_short(plan.data, model, folder.path)
    Job(
        model=None if recipe.init == "random" else str(model.location),
        config=model.config,
        trust_remote_code=model.trust_remote_code,
        recipe=recipe,
        schedule=plan.schedule,
        pad_token_id=pad_token_id,
        checkpoint_steps=checkpoint_steps,
        device=_device(plan.estimate),
        report_to=tuple(report_to),
        rehearse=rehearse,
    ).write(folder.path)
    return _launch(Recovery(plan, folder, tries, given), folder, on_event)


def resumable(path: Path, ram_bytes: int | None = None) -> tuple[Plan, RunFolder]:
    """The plan of a run that has begun and is not done; within `ram_bytes` from now on, if they are given.

    A plan that was made after a death for memory, because nothing needs less, may go on beyond its own budget.
    Raises UsageError where there is none, LplanError or DoesNotFitError for one that cannot go on here.
    """
    folder = RunFolder(path)
    if not folder.plan.is_file() or not (path / JOB).is_file():
        raise UsageError(f"there is no run in {path}", hint="name the folder of a run that has begun")
    if folder.adapter.is_dir() and _verdict(folder) == "done":
        raise UsageError(f"the run in {path} is done", hint=f"its adapter is in {folder.adapter}")
    plan = read_plan(folder.plan)
    location = plan.estimate.model.location
    if plan.recipe.init != "random" and isinstance(location, Path) and not location.exists():
        raise LplanError(f"the model folder {location} is gone", hint="put it back: the run goes on from it")
    if ram_bytes is not None:
        plan = within(plan, ram_bytes)
    require_memory(plan, known_to_be_tight=ram_bytes is None and (path / ATTEMPTS).is_file())
    return plan, folder


def resume_run(
    plan: Plan,
    folder: RunFolder,
    on_event: Callable[[Event], object],
    *,
    tries: int = TRIES,
    learning_rate: float | None = None,
) -> Outcome:
    """Train on from the last good checkpoint, or from the start if there is none, perhaps at another learning rate.

    Raises DoesNotFitError for a run that died for memory with the leanest plan there is.
    """
    if learning_rate is not None:
        plan = replace(plan, schedule=replace(plan.schedule, learning_rate=learning_rate))
        replace(Job.read(folder.path), schedule=plan.schedule).write(folder.path)
    write_plan(plan, folder.plan)
    recovery = Recovery(plan, folder, tries)
    recovery.begin()
    return _launch(recovery, folder, on_event)


def _verdict(folder: RunFolder) -> str | None:
    ends = (
        [event for event in read(folder.events) if isinstance(event, Outcome)]
        if folder.events.is_file()
        else []
    )
    return ends[-1].verdict if ends else None


def _launch(recovery: Recovery, folder: RunFolder, on_event: Callable[[Event], object]) -> Outcome:
    plan = recovery.plan

    def recover(outcome: Outcome, tell: Tell) -> Retry | None:
        smaller = recovery(outcome, tell)
        return _retry(smaller, "goes on from the last checkpoint with") if smaller is not None else None

    def adjust(peak: PhasePeak) -> Retry | None:
        better = recovery.rehearsed(peak)
        return _retry(better, "starts again with") if better is not None else None

    return supervise(
        [sys.executable, "-m", "lplan.trainer.worker", str(folder.path)],
        environment=environment_for(plan.recipe),
        folder=folder,
        start=_facts(plan),
        budget_bytes=plan.estimate.budget.budget_bytes,
        on_event=on_event,
        strategies=ON_A_GPU if plan.recipe.device == "cuda" else STRATEGIES,
        grace_s=GRACE_S + _GRACE_STEPS * (plan.time.step_s if plan.time is not None else 0.0),
        recover=recover,
        adjust=adjust,
    )


def _retry(plan: Plan, how: str) -> Retry:
    decision = plan.decisions[-1]
    return Retry(
        environment=environment_for(plan.recipe),
        start=_facts(plan),
        budget_bytes=plan.estimate.budget.budget_bytes,
        text=f"{how} {decision.value}: {decision.reason}",
    )


def environment_for(recipe: Recipe) -> dict[str, str]:
    """What a worker's environment has beside ours: the allocator and the threads of the plan, its device, no hub."""
    return {
        **environment_of(recipe.allocator, threads=recipe.threads),
        **visible_devices(recipe.device),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _facts(plan: Plan) -> RunFacts:
    model = plan.estimate.model
    return RunFacts(
        model=model.id,
        total_steps=plan.time.steps if plan.time is not None else 0,
        planned_peak_bytes=plan.estimate.peak.peak.expected_bytes,
        planned_rehearsal_bytes=_rehearsal_bytes(plan.estimate),
        mapped_bytes=model.weights.total_bytes if is_mapped(model, plan.recipe) else 0,
        step_s=plan.time.step_s if plan.time is not None else 0.0,
        device_total_bytes=plan.estimate.hardware.gpus[0].memory_bytes
        if plan.recipe.device == "cuda"
        else None,
    )


def _rehearsal_bytes(estimate: Estimate) -> int:
    return next(p.peak.expected_bytes for p in with_rehearsal(estimate.phases) if p.name == REHEARSAL)


def _device(estimate: Estimate) -> DeviceBudget | None:
    if estimate.recipe.device == "cpu":
        return None
    context = context_bytes(estimate.hardware.gpus[0])
    return DeviceBudget(budget_bytes=estimate.budget.budget_bytes, context_bytes=context)


def visible_devices(device: Device, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """No GPU, or the first that the plan saw: of several, a Trainer would take all and split batches."""
    if device == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    first = environment.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": first}
