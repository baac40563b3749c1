"""What runs teach of a machine: offsets by phase, only if they help runs that had no part in them."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from lplan.planner.calibration import fit, forget, in_force, keep, leave_one_out, usable
from lplan.planner.drift import eras
from lplan.planner.history import RunRecord, past_runs, remember
from lplan.planner.versions import stack_versions

MIB = 1 << 20


def run(
    predicted: int, measured: int, *, offset: int = 0, verdict: str = "done", **more: object
) -> RunRecord:
    """A run with one phase, in MiB; the prediction includes `offset`."""
    facts: dict[str, object] = {
        "time": "2026-11-24T02:00:00+00:00", "folder": "runs/a", "machine": platform.node(), "model": "m",
        "verdict": verdict, "versions": dict(stack_versions()), "recipe": {"device": "cpu"},
        "phases": {"load": (100 * MIB, 100 * MIB), "steady step": (predicted * MIB, measured * MIB)},
        "offsets": {"steady step": offset * MIB}, "steps": 10,
        "predicted_tokens_per_s": 100.0, "measured_tokens_per_s": 80.0,
    }  # fmt: skip
    return RunRecord(**{**facts, **more})  # type: ignore[arg-type]


def test_runs_survive_the_store(tmp_path: Path) -> None:
    first, second = run(1000, 1050), run(2000, 2050)
    assert remember(first, tmp_path)
    assert remember(second, tmp_path)
    with (tmp_path / "runs.jsonl").open("a") as file:
        file.write('{"torn": ')
    assert past_runs(tmp_path) == (first, second)
    assert past_runs(tmp_path / "none") == ()


def test_a_constant_excess_is_learned_and_helps() -> None:
    records = [run(1000, 1050), run(2000, 2050), run(500, 551)]
    calibration, trial = fit(records), leave_one_out(records)
    assert calibration.offsets == {"load": 0, "steady step": 50 * MIB}
    assert trial.helps
    # by hand: 50/1050, 50/2050 and 51/551 before; left out, others' medians are 50.5, 50.5 and 50
    assert trial.before == pytest.approx((50 / 1050 + 50 / 2050 + 51 / 551) / 3)
    assert trial.after == pytest.approx((0.5 / 1050 + 0.5 / 2050 + 1 / 551) / 3, rel=1e-3)


def test_chance_is_not_learned() -> None:
    assert not leave_one_out([run(1000, 1050), run(1000, 950), run(1000, 1001)]).helps


def test_what_was_calibrated_is_not_learned_twice() -> None:
    before = fit([run(1000, 1050)] * 3)
    after = fit([run(1050, 1050, offset=50)] * 3)
    assert after.offsets == before.offsets


@pytest.mark.parametrize(
    "other",
    [
        {"verdict": "out-of-memory"},
        {"machine": "another"},
        {"versions": {"torch": "1.0"}},
        {"recipe": {"device": "cuda"}},
        {"phases": {}},
    ],
)
def test_runs_of_another_kind_teach_nothing_here(other: dict[str, object]) -> None:
    mine = run(1000, 1050)
    assert usable([mine, run(1000, 1050, **other)]) == (mine,)


def test_it_can_be_undone_and_ends_with_an_upgrade(tmp_path: Path) -> None:
    calibration = fit([run(1000, 1050)] * 3)
    assert in_force(tmp_path) is None
    keep(calibration, tmp_path)
    assert in_force(tmp_path) == calibration
    keep(fit([run(1000, 1050, versions={"torch": "1.0"})]), tmp_path)
    assert in_force(tmp_path) is None
    assert forget(tmp_path)
    assert not forget(tmp_path)


def test_an_upgrade_begins_an_era() -> None:
    old = {"torch": "2.12.0", "peft": "0.21.2"}
    new = {"torch": "2.13.0", "peft": "0.21.2"}
    found = eras([run(1000, 1000, versions=old), run(900, 1000, versions=new), run(1100, 1000, versions=new)])
    assert [era.changed for era in found] == [old, {"torch": "2.13.0"}]
    assert [era.runs for era in found] == [1, 2]
    assert found[1].mean_error == pytest.approx(0.0)
    assert found[1].lowest_error == pytest.approx(-0.1)
    assert found[1].speed == pytest.approx(0.8)
