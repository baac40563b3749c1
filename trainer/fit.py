"""Runs a plan: fills the run folder, starts the worker inside the budget, returns how it ended."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..planner.allocator import environment_of
from ..planner.cuda import context_bytes
from ..planner.documents import write_plan
from ..planner.estimate import Estimate
from ..planner.estimating import is_mapped
from ..planner.events import Event, Outcome
from ..planner.plan import Plan
from ..planner.recipe import Device
from .evaluation.of_run import prepare_short
from .job import DeviceBudget, Job, TokenFile
from .limit import ON_A_GPU, STRATEGIES
from .prepare import Prepared
from .run_folder import RunFolder
from .supervise import GRACE_S, RunFacts, supervise

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


def run_plan(plan: Plan, data: Prepared, folder: RunFolder, on_event: Callable[[Event], object]) -> Outcome:
    """Train as planned; every event goes to events.jsonl and to `on_event`."""
    recipe, model = plan.recipe, plan.estimate.model
    write_plan(plan, folder.plan)
    TokenFile(folder.path, "train").write(data.train)
    TokenFile(folder.path, "validation").write(data.validation)
    prepare_short(plan.data, model, folder.path)
    Job(
        model=None if recipe.init == "random" else str(model.location),
        config=model.config,
        trust_remote_code=model.trust_remote_code,
        recipe=recipe,
        schedule=plan.schedule,
        pad_token_id=data.pad_token_id,
        checkpoint_steps=checkpoint_steps,
        device=_device(plan.estimate),
    ).write(folder.path)
    return supervise(
        [sys.executable, "-m", "lplan.trainer.worker", str(folder.path)],
        environment={
            **environment_of(recipe.allocator, threads=recipe.threads),
            **visible_devices(recipe.device),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        },
        folder=folder,
        start=RunFacts(
            model=model.id,
            total_steps=plan.time.steps if plan.time is not None else 0,
            planned_peak_bytes=plan.estimate.peak.peak.expected_bytes,
            mapped_bytes=model.weights.total_bytes if is_mapped(model, recipe) else 0,
        ),
        budget_bytes=plan.estimate.budget.budget_bytes,
        on_event=on_event,
        strategies=ON_A_GPU if recipe.device == "cuda" else STRATEGIES,
        grace_s=GRACE_S + _GRACE_STEPS * (plan.time.step_s if plan.time is not None else 0.0),
    )


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


def _steps_per_epoch(plan: Plan, data: Prepared) -> int:
    return max(1, -(-len(data.train) // plan.recipe.effective_batch))
