"""The evaluation of a finished run in a process of its own, under a limit like the run's, and explained like it.

`python -m lplan.trainer.limited_evaluation RUN WANTED` is that process; WANTED is JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ..planner.documents import read_plan
from ..planner.evaluation import Evaluated, read_evaluation
from ..planner.events import Event
from ..profiles.errors import DoesNotFitError, LplanError
from ..profiles.units import format_size
from .channel import Channel
from .evaluation.of_run import Wanted, evaluate_run, require_evaluable
from .fit import environment_for
from .limit import ON_A_GPU, STRATEGIES
from .retry import RunFacts
from .run_folder import RunFolder
from .supervise import supervise


def evaluate_limited(
    run: Path, wanted: Wanted, ram_bytes: int | None, on_event: Callable[[Event], object]
) -> Evaluated:
    """Evaluate a run within the budget it was trained in, or another.

    Raises UsageError for a folder without a finished run, DoesNotFitError where the limit was reached, LplanError for
    any other end.
    """
    require_evaluable(run)
    plan = read_plan(run / "plan.json")
    budget_bytes = plan.estimate.budget.budget_bytes if ram_bytes is None else ram_bytes
    planned = {phase.name: phase.peak.expected_bytes for phase in plan.estimate.phases}
    with tempfile.TemporaryDirectory(prefix="lplan-") as aside:
        outcome = supervise(
            [sys.executable, "-m", __name__, str(run.resolve()), json.dumps(asdict(wanted))],
            environment=environment_for(plan.recipe),
            folder=RunFolder(Path(aside)),
            start=RunFacts(
                model=plan.estimate.model.id, total_steps=0, planned_peak_bytes=planned.get("evaluation", 0)
            ),
            budget_bytes=budget_bytes,
            on_event=on_event,
            strategies=ON_A_GPU if plan.recipe.device == "cuda" else STRATEGIES,
        )
    if outcome.verdict == "out-of-memory":
        raise DoesNotFitError(
            f"the evaluation does not fit {format_size(budget_bytes)}: {outcome.explanation}",
            hint="allow it more by --ram SIZE",
        )
    if outcome.verdict == "interrupted":
        raise LplanError(
            "interrupted: the evaluation had not ended, and nothing of it is kept",
            hint="--samples N asks fewer held-out examples",
        )
    if outcome.verdict != "done":
        error = LplanError(f"the evaluation failed: {outcome.explanation}", hint=outcome.hint)
        error.exit_code = outcome.exit_code or 1
        raise error
    return read_evaluation(run)


def main(run: Path, wanted: Wanted) -> int:
    """The process under the limit; its result is the run's evaluation.json."""
    channel = Channel.from_environment()
    channel.phase("import")
    from .quiet import quiet

    quiet()
    try:
        evaluate_run(run, wanted, channel.phase)
    except LplanError as error:
        channel.failure(str(error), hint=error.hint, exit_code=error.exit_code)
        return error.exit_code
    channel.phase_peak()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Wanted(**json.loads(sys.argv[2]))))
