"""From one row of a data set, whatever its columns, to a dialogue."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import get_args

from ...profiles.errors import LplanError, UsageError
from .examples import Example, Message, Role
from .tasks import Task

MESSAGES = "messages"
PAIRS = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
)
"""Columns of a request and its answer, as public data sets name them."""

Row = Mapping[str, object]


class RowReader:
    """Makes examples of rows; every example shares the messages that the task repeats."""

    def __init__(self, task: Task) -> None:
        self._task = task
        prompt = task.system_prompt
        self._system = (Message(role="system", content=prompt),) if prompt else ()
        self._answers = {
            label: Message(role="assistant", content=text) for label, text in task.responses.items()
        }

    def example(self, row: Row, where: str) -> Example:
        """The dialogue of `row`: a labelled text of the task, messages, or a request with its answer.

        `where` names the row in errors. Raises UsageError when no known columns are there and LplanError
        when their content is not as it should be.
        """
        label_column = next((c for c in self._task.label_columns if c in row), None)
        if self._answers and label_column is not None and self._task.text_column in row:
            return self._labelled(row, label_column, where)
        if MESSAGES in row:
            return self._dialogue(row[MESSAGES], where)
        for prompt, response in PAIRS:
            if prompt in row and response in row:
                return self._pair(row, prompt, response, where)
        raise UsageError(f"{where}: no known columns among {_listed(row)}", hint=self._wanted(row))

    def _labelled(self, row: Row, label_column: str, where: str) -> Example:
        label = _text(row, label_column, where)
        answer = self._answers.get(label)
        if answer is None:
            near = get_close_matches(label, self._answers, n=1)
            hint = f"did you mean {near[0]}?" if near else f"labels are such as {next(iter(self._answers))}"
            raise LplanError(f"{where}: task {self._task.name} has no label {label!r}", hint=hint)
        user = Message(role="user", content=_text(row, self._task.text_column, where))
        return Example(messages=(*self._system, user, answer), label=label)

    def _pair(self, row: Row, prompt: str, response: str, where: str) -> Example:
        request = _text(row, prompt, where)
        if prompt == "instruction" and row.get("input"):
            request += "\n\n" + _text(row, "input", where)
        system = self._system
        if row.get("system"):
            system = (Message(role="system", content=_text(row, "system", where)),)
        user = Message(role="user", content=request)
        answer = Message(role="assistant", content=_text(row, response, where))
        return Example(messages=(*system, user, answer))

    def _dialogue(self, turns: object, where: str) -> Example:
        if not isinstance(turns, list) or not turns:
            raise LplanError(f"{where}: {MESSAGES} is not a list of messages", hint=_MESSAGES_HINT)
        messages = tuple(_message(turn, where) for turn in turns)
        if all(m.role != "assistant" for m in messages):
            raise LplanError(
                f"{where}: no message is the assistant's", hint="there is nothing to learn from it"
            )
        return Example(messages=messages if messages[0].role == "system" else (*self._system, *messages))

    def _wanted(self, row: Row) -> str:
        task, pairs = self._task, ", ".join("/".join(pair) for pair in PAIRS)
        if self._answers:
            labelled = f"{task.text_column} and {task.label_columns[0]}"
            return f"task {task.name} wants {labelled}, or {pairs}, or {MESSAGES}"
        if task.text_column in row and any(c in row for c in task.label_columns):
            return "labelled texts need a task: try --task banking77"
        return f"wanted are {pairs}, or {MESSAGES}"


_MESSAGES_HINT = 'write [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'


def _message(turn: object, where: str) -> Message:
    if not isinstance(turn, Mapping) or not {"role", "content"} <= turn.keys():
        raise LplanError(f"{where}: a message lacks role or content", hint=_MESSAGES_HINT)
    role = next((known for known in get_args(Role) if known == turn["role"]), None)
    if role is None:
        raise LplanError(
            f"{where}: unknown role {turn['role']!r}", hint=f"roles are {', '.join(get_args(Role))}"
        )
    return Message(role=role, content=_text(turn, "content", where))


def _text(row: Row, column: str, where: str) -> str:
    """The non-empty text in a column."""
    value = row[column]
    if not isinstance(value, str):
        found = "missing" if value is None else f"{type(value).__name__}, not text"
        raise LplanError(
            f"{where}: {column} is {found}", hint="every example needs it; remove the row or fill it in"
        )
    if not value.strip():
        raise LplanError(
            f"{where}: {column} is empty", hint="every example needs it; remove the row or fill it in"
        )
    return value


def _listed(row: Row) -> str:
    return ", ".join(repr(str(c)) for c in row)
