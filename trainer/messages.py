"""The data of a plan as JSON lines of messages: what other programs read."""

from __future__ import annotations

import json
from pathlib import Path

from ..planner.plan import Plan
from ..profiles.errors import LplanError, UsageError
from .data.readers import read_examples


def write_messages(plan: Plan, file: Path) -> int:
    """Write the train split that a plan was made for, in file order; how many dialogues it has.

    Raises UsageError for a plan without data or a place that cannot be written, LplanError where the data has changed.
    """
    if plan.data is None:
        raise UsageError("the plan was made without data", hint="plan again with --data")
    data = read_examples(plan.data.location, task=plan.data.task)
    if data.fingerprint != plan.data.fingerprint:
        raise LplanError(f"{plan.data.location} has changed since the plan was made", hint="plan again")
    try:
        with file.open("x", encoding="utf-8") as stream:
            for example in data.train:
                turns = [{"role": turn.role, "content": turn.content} for turn in example.messages]
                stream.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}", hint="name another file") from error
    return len(data.train)
