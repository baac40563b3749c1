"""The Hugging Face Trainer, held to the recipe: our loss paths, our batches, our events."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerState, TrainingArguments

from ..planner.recipe import Recipe
from ..planner.tracing.objective import IGNORED, Objective
from ..planner.tracing.step import autocast
from .batches import TokenDataset, collator
from .checkpoints import Checkpoint, write_checkpoint
from .data.batching import LengthGroupedBatches
from .health import LOWER, DivergedError
from .job import Job
from .memory_metrics import memory_gib
from .training_state import (
    all_finite,
    random_kept,
    read_progress,
    read_random,
    read_weights,
    set_rate,
    write_progress,
    write_weights,
)

TRAINER_STATE_NAME = "trainer_state.json"
_OPTIMIZERS = {
    "adamw": ("adamw_torch", None),
    "adamw-fused": ("adamw_torch_fused", None),
    "adamw-8bit": ("adamw_bnb_8bit", None),
    "paged-adamw": ("paged_adamw_32bit", None),
    "paged-adamw-8bit": ("paged_adamw_8bit", None),
    "adafactor": ("adafactor", None),
    "lion": ("lion_32bit", None),
    "sgd": ("sgd", None),
    "sgd-momentum": ("sgd", "momentum=0.9"),
}
"""The Trainer's `optim` and `optim_args`."""


def training_arguments(job: Job, folder: str) -> TrainingArguments:
    """The Trainer's arguments for a job."""
    recipe, schedule = job.recipe, job.schedule
    optim, optim_args = _OPTIMIZERS[recipe.optimizer]
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        num_train_epochs=schedule.epochs,
        max_steps=schedule.max_steps or -1,
        learning_rate=schedule.learning_rate,
        warmup_steps=schedule.warmup_steps,
        lr_scheduler_type=schedule.scheduler,
        weight_decay=schedule.weight_decay,
        max_grad_norm=schedule.max_grad_norm if recipe.clipping else 0.0,
        optim=optim,
        optim_args=optim_args,
        seed=schedule.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=list(job.report_to) or "none",
        run_name=Path(folder).parent.name,
        disable_tqdm=True,
        use_cpu=recipe.device == "cpu",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


class PlannedTrainer(Trainer):
    """Trainer with the recipe's objective and length-grouped batches, the longest first."""

    def __init__(
        self, job: Job, model: nn.Module, folder: str, train: TokenDataset, held_out: TokenDataset | None
    ) -> None:
        self.job = job
        self.objective = Objective(job.recipe.loss)
        self.tokens = 0
        self.saving_s = 0.0
        self.on_unsaved: Callable[[OSError], object] = lambda error: None
        super().__init__(
            model=model,
            args=training_arguments(job, folder),
            train_dataset=train,
            eval_dataset=held_out,
            data_collator=collator(job),
        )
        if job.recipe.precision.startswith("fp16"):
            # Not by the Trainer's own fp16, which would also autocast fp16 weights and widen all logits.
            self.accelerator.scaler = torch.amp.GradScaler(job.recipe.device)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of similar lengths; the longest batch of the data set comes first."""
        self.batches = LengthGroupedBatches(
            self.train_dataset.lengths(),
            self.job.order_batch or self.job.recipe.batch_size,
            seed=self.job.schedule.seed,
            piece=self.job.recipe.batch_size,
        )
        return DataLoader(self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: Any
    ) -> tuple[list[Any], Any]:
        """The micro batches of one optimizer step, and how many tokens carry loss in all of them."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        items = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches)
        return batches, torch.tensor(max(items, 1))

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Counts the micro batch's tokens, padding excluded, and trains on it."""
        mask = inputs.get("attention_mask")
        self.tokens += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
        return super().training_step(model, inputs, num_items_in_batch)  # type: ignore[no-any-return]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The recipe's loss path; summed over the step's supervised tokens, divided by their number."""
        items = num_items_in_batch
        if self.objective.loss == "full" and not self.model_accepts_loss_kwargs:
            items = None
        self.loss_is_scaled_for_ga = items is not None
        with _saved(self.job.recipe), autocast(self.job.recipe, self.job.recipe.device):
            loss = self.objective(model, inputs, items)
        return (loss, {}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Metrics, and for trackers the memory of this process and its GPU, in GiB."""
        if self.job.report_to:
            logs = {**logs, **memory_gib()}
        super().log(logs, start_time)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        scaler = self.accelerator.scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer.optimizer)
        return super()._clip_grad_norm(model)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Our own files instead of the Trainer's pickles; a full disk costs the checkpoint, not the run."""
        began_s, step = time.monotonic(), self.state.global_step
        if not all_finite(model):
            raise DivergedError(
                f"a trained weight is not a number after step {step}; it is not saved", hint=LOWER
            )
        try:
            write_checkpoint(Path(self.args.output_dir), step, self.fill)
        except OSError as error:
            self.on_unsaved(error)
        self.saving_s = time.monotonic() - began_s

    def fill(self, folder: Path) -> None:
        """Write the files of the present state. Raises OSError."""
        write_weights(folder, self.model)
        write_progress(folder, self.optimizer, self.lr_scheduler, self.accelerator.scaler)
        state = copy.copy(self.state)
        state.log_history = []
        state.save_to_json(str(folder / TRAINER_STATE_NAME))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        read_weights(Path(resume_from_checkpoint), self.model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            read_progress(Path(checkpoint), self.optimizer, self.lr_scheduler, self.accelerator.scaler)
            set_rate(self.optimizer, self.lr_scheduler, self.job.schedule.learning_rate)

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Comes with the optimizer."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            read_random(Path(checkpoint))

    def continue_from(self, checkpoint: Checkpoint) -> None:
        """Train on from a checkpoint; one of a run whose steps are all done only gives its weights back."""
        state = TrainerState.load_from_json(str(checkpoint.path / TRAINER_STATE_NAME))
        if state.global_step < state.max_steps:
            self.train(resume_from_checkpoint=str(checkpoint.path))
            return
        read_weights(checkpoint.path, self.model)
        self.state = state

    def held_out_loss(self) -> float:
        """The mean loss of the held-out samples; what follows draws the same random numbers as without it."""
        with random_kept():
            return float(self.evaluate()["eval_loss"])

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor, None, None]:
        """Loss only: held-out logits are never gathered."""
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None


def _saved(recipe: Recipe) -> AbstractContextManager[Any]:
    """Where the forward pass leaves what backward needs."""
    if "activations" in recipe.offload:
        return torch.autograd.graph.save_on_cpu(pin_memory=True)
    return nullcontext()
