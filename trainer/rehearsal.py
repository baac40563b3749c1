"""Before training: two optimizer steps, an evaluation batch and a checkpoint on the longest samples, undone after."""

from __future__ import annotations

import gc
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ..profiles.errors import LplanError
from .batches import TokenDataset
from .checkpoints import write_checkpoint
from .job import Job
from .training import PlannedTrainer
from .training_state import random_kept, read_weights, write_weights

_PLACE = ".rehearsal"
_STEPS = 2
"""In the second, the optimizer's states are there while backward fills memory: with every weight trained they may be
the larger part of it. The allocator, too, has its history by then."""
_MICRO_BATCHES = 2
"""Of a step: from the second on, gradients are there while backward makes more. Further ones need no more."""


def rehearse(
    job: Job, model: nn.Module, folder: Path, train: TokenDataset, held_out: TokenDataset | None
) -> None:
    """Need what the run will need of memory and disk, and leave weights and random state as they were.

    The weights wait on disk, not in memory. Raises LplanError if a checkpoint cannot be written.
    """
    place = folder / _PLACE
    shutil.rmtree(place, ignore_errors=True)
    try:
        place.mkdir()
        with random_kept():
            write_weights(place, model)
            _try(_short(job), model, place, train, held_out)
            read_weights(place, model)
    except OSError as error:
        raise LplanError(
            f"no checkpoint can be written in {folder}: {error.strerror or error}",
            hint="make room, name another folder by --output, or go on without with --no-rehearsal",
        ) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    model.zero_grad(set_to_none=True)
    gc.collect()
    if job.recipe.device == "cuda":
        torch.cuda.empty_cache()


def _try(job: Job, model: nn.Module, place: Path, train: TokenDataset, held_out: TokenDataset | None) -> None:
    recipe = job.recipe
    trainer = PlannedTrainer(
        job,
        model,
        str(place),
        train.longest(recipe.batch_size * recipe.accumulation),
        held_out.longest(recipe.batch_size) if held_out is not None else None,
    )
    trainer.train()
    if held_out is not None:
        trainer.evaluate()
    write_checkpoint(place, _STEPS, trainer.fill)


def _short(job: Job) -> Job:
    recipe = replace(job.recipe, accumulation=min(job.recipe.accumulation, _MICRO_BATCHES))
    return replace(job, recipe=recipe, order_batch=None, schedule=replace(job.schedule, max_steps=_STEPS))
