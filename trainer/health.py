"""Whether a run still learns: a loss that is no number or exactly zero ends it, overfitting is told."""

from __future__ import annotations

import math
from statistics import fmean

from ..profiles.errors import LplanError

ZERO_STEPS = 3
"""Steps in a row with a loss of exactly zero: a model that has learned everything still misses it by rounding."""


class NothingLearnedError(LplanError):
    """Going on as before would learn nothing."""


class DivergedError(NothingLearnedError):
    """A loss or a weight is no number any more."""


class Health:
    """Follows the losses of a run."""

    def __init__(self) -> None:
        self._zeros = 0
        self._losses: list[float] = []
        self._before: tuple[float, float] | None = None
        self._warned = False

    def take_step(self, step: int, loss: float) -> None:
        """Take in a step's training loss. Raises NothingLearnedError."""
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss of step {step} is {_word(loss)}: nothing can be learned from it", hint=LOWER
            )
        self._zeros = 0 if loss else self._zeros + 1
        if self._zeros == ZERO_STEPS:
            raise NothingLearnedError(
                f"the loss was exactly 0 for {ZERO_STEPS} steps, up to step {step}: there is nothing to learn",
                hint="see by `lplan data` which tokens carry loss: answers may be empty, or cut off by --seq-len",
            )
        self._losses.append(loss)

    def take_evaluation(self, held_out: float) -> str | None:
        """Take in the held-out loss after some steps; a warning, once, when the model begins to memorise."""
        if not self._losses:
            return None
        trained, before = fmean(self._losses), self._before
        self._losses, self._before = [], (trained, held_out)
        if before is None or self._warned or trained >= before[0] or held_out <= before[1]:
            return None
        self._warned = True
        return (
            f"overfitting: the held-out loss rose from {before[1]:.3f} to {held_out:.3f} while the training loss "
            f"fell from {before[0]:.3f} to {trained:.3f}; fewer --epochs or more data would serve better"
        )


LOWER = "start again with a lower --learning-rate, or with --precision bf16 if it was fp16"


def _word(loss: float) -> str:
    return "not a number" if math.isnan(loss) else "infinite"
