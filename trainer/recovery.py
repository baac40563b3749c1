"""What a run is followed by: a smaller plan after it died for memory, a better one after its rehearsal.

Its history, earlier invocations included, is attempts.json.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from ..planner.corrected import Failure, rehearsed_plan, smaller_plan
from ..planner.documents import write_plan
from ..planner.events import Outcome, PhasePeak
from ..planner.plan import Plan
from ..planner.recipe import Recipe
from ..planner.tokens import TokenLengths
from ..profiles.errors import DoesNotFitError, LplanError
from ..profiles.hardware import Budget, Limit
from ..profiles.units import format_size
from .data.encoding import token_lengths
from .job import Job, TokenFile
from .retry import Tell
from .run_folder import RunFolder

TRIES = 3
ATTEMPTS = "attempts.json"
_REPLANS = 2
"""Better plans after rehearsals, at most: one that has grown may have to give way once."""


class Recovery:
    """Decides, after each attempt, whether and with which plan there is another; never with one that failed.

    `given` names the knobs that stay when a rehearsal has left room; None where room is not to be used.
    """

    def __init__(
        self, plan: Plan, folder: RunFolder, tries: int = TRIES, given: Collection[str] | None = None
    ) -> None:
        self.plan = plan
        self._folder = folder
        self._tries = tries
        self._given = given
        self._replans = 0
        self._history = _attempts_before(folder)

    def begin(self) -> None:
        """Before the first attempt: a plan that died for memory in an earlier invocation gives way to a smaller one.

        Raises DoesNotFitError where there is none.
        """
        failures = self._failures()
        if self.plan.recipe not in [failure.recipe for failure in failures]:
            return
        if self._smaller() is None:
            raise DoesNotFitError(
                "this run died for memory, and no plan needs less",
                hint="plan anew: a larger --ram, a smaller model, or shorter sequences",
            )

    def __call__(self, outcome: Outcome, tell: Tell) -> Plan | None:
        """The next plan, written down for the worker; None if the run ends as it did.

        `tell` hears before one is sought: where graphs are traced for it, that takes a while.
        """
        self._tries -= 1
        told = {
            "verdict": outcome.verdict,
            "explanation": outcome.explanation,
            "had_bytes": outcome.had_bytes,
        }
        self._remember({**told, "phase": outcome.phase, "step": outcome.step})
        if outcome.verdict != "out-of-memory" or self._tries <= 0:
            return None
        self._keep_to(outcome.had_bytes)
        tell("out of memory: a plan that needs less is sought")
        return self._smaller()

    def rehearsed(self, peak: PhasePeak) -> Plan | None:
        """A better plan than the one whose rehearsal needed so much, written down; None if it goes on."""
        try:
            plan = rehearsed_plan(self.plan, peak.measured_bytes, self._lengths(), self._given)
        except LplanError:
            return None
        self._given = None  # once: what then fits is known well enough
        self._replans += 1
        if (
            plan is None
            or self._replans > _REPLANS
            or plan.recipe in [failure.recipe for failure in self._failures()]
        ):
            return None
        self._remember({"verdict": "rehearsed", "measured_bytes": peak.measured_bytes})
        return self._write(plan)

    def _keep_to(self, had_bytes: int | None) -> None:
        """Where somebody lowered the limit, that is what there is from now on."""
        budget = self.plan.estimate.budget
        if had_bytes is not None and had_bytes < budget.budget_bytes:
            kept = replace(self.plan.estimate, budget=_lowered(budget, had_bytes))
            self.plan = replace(self.plan, estimate=kept)

    def _smaller(self) -> Plan | None:
        try:
            plan = smaller_plan(self.plan, self._failures(), self._lengths())
        except LplanError:
            return None
        return None if plan is None else self._write(plan)

    def _write(self, plan: Plan) -> Plan:
        job = Job.read(self._folder.path)
        order = job.order_batch or job.recipe.batch_size
        kept = order if order % plan.recipe.batch_size == 0 else None
        device, budget = job.device, plan.estimate.budget.budget_bytes
        if device is not None:
            device = replace(device, budget_bytes=budget)
        replace(job, recipe=plan.recipe, order_batch=kept, device=device).write(self._folder.path)
        write_plan(plan, self._folder.plan)
        self.plan = plan
        return plan

    def _remember(self, told: dict[str, Any]) -> None:
        recipe, planned = self.plan.recipe, self.plan.estimate.peak.peak.expected_bytes
        self._history.append({"recipe": recipe.to_dict(), "planned_peak_bytes": planned, **told})
        if self._folder.path.is_dir():
            document = {"schema": "lplan.attempts/1", "attempts": self._history}
            (self._folder.path / ATTEMPTS).write_text(json.dumps(document, indent=1), encoding="utf-8")

    def _failures(self) -> list[Failure]:
        """All attempts of this run that died for memory."""
        died = (one for one in self._history if one.get("verdict") == "out-of-memory")
        return [failure for one in died if (failure := _failure(one, self.plan)) is not None]

    def _lengths(self) -> TokenLengths:
        return token_lengths(TokenFile(self._folder.path, "train").encoded())


def _lowered(budget: Budget, size_bytes: int) -> Budget:
    limit = Limit(name="while running", limit_bytes=size_bytes, source="what the run had when it was killed")
    return replace(
        budget,
        budget_bytes=size_bytes,
        limits=(*budget.limits, limit),
        reason=f"{format_size(size_bytes)} was all there was when the run was killed",
    )


def _failure(attempt: dict[str, Any], plan: Plan) -> Failure | None:
    try:
        return Failure(
            recipe=Recipe.from_dict(attempt["recipe"]),
            phase=attempt.get("phase"),
            had_bytes=int(attempt.get("had_bytes") or plan.estimate.budget.budget_bytes),
        )
    except (LplanError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _attempts_before(folder: RunFolder) -> list[dict[str, Any]]:
    """The attempts of a run that is resumed."""
    try:
        attempts = json.loads((folder.path / ATTEMPTS).read_text(encoding="utf-8"))["attempts"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [one for one in attempts if isinstance(one, dict)] if isinstance(attempts, list) else []
