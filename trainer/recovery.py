"""After a run has died for memory: a smaller plan, from the last good checkpoint. Its history is attempts.json."""

from __future__ import annotations

import json
from dataclasses import replace

from ..planner.documents import write_plan
from ..planner.events import Outcome
from ..planner.plan import Plan
from ..planner.recipe import Recipe
from ..planner.smaller import smaller_plan
from ..profiles.errors import LplanError
from .job import Job
from .run_folder import RunFolder

TRIES = 3
ATTEMPTS = "attempts.json"


class Recovery:
    """Decides, after each attempt, whether and with which plan there is another; never with one that failed."""

    def __init__(self, plan: Plan, folder: RunFolder, tries: int = TRIES) -> None:
        self.plan = plan
        self._folder = folder
        self._tries = tries
        self._tried: list[Recipe] = []
        self._history = _attempts_before(folder)

    def __call__(self, outcome: Outcome) -> Plan | None:
        """The next plan, written down for the worker; None if the run ends as it did."""
        self._tried.append(self.plan.recipe)
        self._history.append(
            {
                "recipe": self.plan.recipe.to_dict(),
                "planned_peak_bytes": self.plan.estimate.peak.peak.expected_bytes,
                "verdict": outcome.verdict,
                "explanation": outcome.explanation,
                "phase": outcome.phase,
                "step": outcome.step,
            }
        )
        if self._folder.path.is_dir():
            document = {"schema": "lplan.attempts/1", "attempts": self._history}
            (self._folder.path / ATTEMPTS).write_text(json.dumps(document, indent=1), encoding="utf-8")
        if outcome.verdict != "out-of-memory" or len(self._tried) >= self._tries:
            return None
        return self._smaller(outcome)

    def _smaller(self, outcome: Outcome) -> Plan | None:
        attempt = len(self._tried)
        try:
            plan = smaller_plan(self.plan, phase=outcome.phase, tried=self._tried, attempt=attempt)
        except LplanError:
            return None
        if plan is None:
            return None
        job = Job.read(self._folder.path)
        order = job.order_batch or job.recipe.batch_size
        replace(job, recipe=plan.recipe, order_batch=order).write(self._folder.path)
        write_plan(plan, self._folder.plan)
        self.plan = plan
        return plan


def _attempts_before(folder: RunFolder) -> list[dict[str, object]]:
    """The attempts of a run that is resumed."""
    try:
        attempts = json.loads((folder.path / ATTEMPTS).read_text(encoding="utf-8"))["attempts"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return attempts if isinstance(attempts, list) else []
