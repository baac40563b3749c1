"""What the worker tells while it trains: steps, losses, what is wrong with them; when a checkpoint is due."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from .caches import free_caches
from .channel import Channel
from .evaluation.each_epoch import SampleRequests
from .health import Health
from .training import PlannedTrainer


class Cadence:
    """When a checkpoint is due: every so many steps if asked, else as often as costs less than a percent.

    At most a minute of training is lost, or a hundred times what the last checkpoint took.
    """

    EVERY_S = 60.0
    COST_SHARE = 0.01

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._last_s = time.monotonic()

    def due(self, step: int, saving_s: float) -> bool:
        """Whether to save after `step`; the last checkpoint took `saving_s`."""
        if self._steps:
            return step % self._steps == 0
        now_s = time.monotonic()
        if now_s - self._last_s < max(self.EVERY_S, saving_s / self.COST_SHARE):
            return False
        self._last_s = now_s
        return True


class Reporter(TrainerCallback):
    """Turns the Trainer's progress into events, and a signal into a clean stop."""

    def __init__(self, channel: Channel, stop_asked: Sequence[bool]) -> None:
        self.channel = channel
        self.stop_asked = stop_asked
        self.free_asked: list[bool] = []
        self.trainer: PlannedTrainer | None = None
        self.cadence = Cadence(0)
        self.health = Health()
        self.samples: SampleRequests | None = None
        self._first: int | None = None
        self._began_s = 0.0
        self._last: tuple[int, float] = (0, 0.0)

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assert self.trainer is not None
        self.trainer.batches.set_epoch(int(state.epoch or 0))

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step < state.max_steps and not control.should_training_stop and self.evaluate():
            self.channel.phase("steady step")

    def evaluate(self) -> bool:
        """Tell the held-out loss, sample answers, and overfitting; false without held-out samples."""
        assert self.trainer is not None
        if self.trainer.eval_dataset is None:
            return False
        self.channel.phase("evaluation")
        loss = self.trainer.held_out_loss()
        self.channel.evaluation(
            step=self.trainer.state.global_step, loss=loss, samples=len(self.trainer.eval_dataset)
        )
        if warning := self.health.take_evaluation(loss):
            self.channel.note(warning)
        for request, wanted, text in self.samples.answers() if self.samples is not None else ():
            self.channel.answer(
                step=self.trainer.state.global_step, request=request, wanted=wanted, text=text
            )
        return True

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._began_s = time.monotonic()
        if self._first is None:
            self._first = state.global_step
            self.channel.phase("steady step" if self._first else "first step")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._last = (state.global_step, time.monotonic() - self._began_s)
        if state.global_step == 1:
            self.channel.phase("steady step")
        assert self.trainer is not None
        if self.free_asked:
            self.free_asked.clear()
            self.channel.note(free_caches())
        if any(self.stop_asked):
            control.should_training_stop = True
        control.should_save = (
            control.should_training_stop
            or state.global_step >= state.max_steps
            or self.cadence.due(state.global_step, self.trainer.saving_s)
        )

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        assert self.trainer is not None
        if logs and "loss" in logs:
            step, step_s = self._last
            self.channel.metric(
                step=step, loss=float(logs["loss"]), learning_rate=logs.get("learning_rate"),
                tokens=self.trainer.tokens, step_s=step_s,
            )  # fmt: skip
            self.trainer.tokens = 0
            self.health.take_step(step, float(logs["loss"]))
