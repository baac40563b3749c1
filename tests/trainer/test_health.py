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
from lplan.trainer.training_state import set_rate


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
    assert run.outcome.repeats
    saved = [checkpoint.step for checkpoint in list_checkpoints(tmp_path / "run" / "checkpoints")]
    assert "a lower --learning-rate" in (run.outcome.hint or "")
    command = f"`lplan fit-and-train --resume {tmp_path / 'run'} --learning-rate 1e+29`"
    where = f"go on from the checkpoint after step {max(saved)}: {command}" if saved else ""
    assert where in (run.outcome.hint or "")
    losses = {metric.step: metric.loss for metric in run.of(Metric)}
    assert all(losses[step] is not None for step in saved)


def test_a_run_goes_on_at_another_rate() -> None:
    """The state of a schedule that had its top at 1e-2, continued with 1e-3: a tenth of it from then on."""
    import torch

    weight = torch.nn.Parameter(torch.zeros(3))

    def halfway(rate: float) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        optimizer = torch.optim.SGD([weight], lr=rate)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 10)
        for _ in range(4):
            optimizer.step()
            scheduler.step()
        return optimizer, scheduler

    (changed, its), (lower, other), (same, _) = halfway(1e-2), halfway(1e-3), halfway(1e-2)
    set_rate(changed, its, 1e-3)
    assert changed.param_groups[0]["lr"] == pytest.approx(lower.param_groups[0]["lr"])
    for optimizer, scheduler in ((changed, its), (lower, other)):
        optimizer.step()
        scheduler.step()
    assert changed.param_groups[0]["lr"] == pytest.approx(5e-4) == lower.param_groups[0]["lr"]
    before = same.param_groups[0]["lr"]
    set_rate(same, _, 1e-2)
    assert same.param_groups[0]["lr"] == before
