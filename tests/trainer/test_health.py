import math
from pathlib import Path

import pytest
from real_run import train
from real_worker import fill

from lplan.planner.events import Metric
from lplan.planner.plan import Schedule
from lplan.profiles.errors import LplanError
from lplan.trainer.checkpoints import list_checkpoints
from lplan.trainer.health import ZERO_STEPS, Health


@pytest.mark.parametrize(("loss", "says"), [(math.nan, "not a number"), (math.inf, "infinite")])
def test_a_loss_that_is_no_number_ends_the_run(loss: float, says: str) -> None:
    health = Health()
    health.take_step(1, 2.5)
    with pytest.raises(LplanError, match=f"loss of step 2 is {says}") as error:
        health.take_step(2, loss)
    assert "--learning-rate" in (error.value.hint or "")


def test_zeros_in_a_row_end_the_run_and_others_don_t() -> None:
    health = Health()
    for step in range(1, ZERO_STEPS):
        health.take_step(step, 0.0)
    health.take_step(ZERO_STEPS, 1e-9)
    for step in range(1, ZERO_STEPS):
        health.take_step(step, 0.0)
    with pytest.raises(LplanError, match="exactly 0"):
        health.take_step(9, 0.0)


def epochs(*losses: tuple[float, float]) -> list[str]:
    """The warnings of epochs with these training and held-out losses."""
    health, said = Health(), []
    for trained, held_out in losses:
        health.take_step(1, trained)
        said.append(health.take_evaluation(held_out))
    return [warning for warning in said if warning]


def test_overfitting_is_told_once() -> None:
    (warning,) = epochs((2.0, 1.5), (1.0, 1.2), (0.5, 1.4), (0.2, 1.9))
    assert "rose from 1.200 to 1.400" in warning
    assert "fell from 1.000 to 0.500" in warning


@pytest.mark.parametrize("second", [(1.0, 1.5), (1.0, 1.4), (2.1, 1.6)])
def test_no_overfitting_unless_one_falls_and_the_other_rises(second: tuple[float, float]) -> None:
    assert epochs((2.0, 1.5), second) == []


def test_a_run_whose_weights_blow_up_says_so_and_keeps_what_was_good(tmp_path: Path) -> None:
    schedule = Schedule(max_steps=8, warmup_steps=0, learning_rate=1e30)
    run = train(fill(tmp_path / "run", schedule=schedule, checkpoint_steps=1))
    assert run.outcome.verdict == "failed"
    assert "not a number" in run.outcome.explanation
    assert "--learning-rate" in (run.outcome.hint or "")
    saved = [checkpoint.step for checkpoint in list_checkpoints(tmp_path / "run" / "checkpoints")]
    losses = {metric.step: metric.loss for metric in run.of(Metric)}
    assert all(losses[step] is not None for step in saved)
