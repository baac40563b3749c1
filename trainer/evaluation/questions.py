"""What a model is asked: token ids, made where the tokenizer is and written for the worker, which has none."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from ..data.encoding import IGNORED, Encoded, encode
from ..data.examples import Example, Message
from ..data.tasks import Task
from ..data.tokenizer import ChatTokenizer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Ids = tuple[int, ...]
FILE = "questions.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A held-out example: its prompt, the answer it wants with the end token, and which label that is."""

    prompt: Ids
    answer: Ids
    label: int | None
    text: str
    """The last request, for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question of general knowledge with four answers, of which one is right."""

    field: str
    prompt: Ids
    choices: tuple[Ids, ...]
    lengths: tuple[int, ...]
    """Characters of each answer."""
    right: int


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionSet:
    """All that one evaluation asks. `labels` are the answers that a task knows, in the order of `names`."""

    asked: tuple[Asked, ...]
    names: tuple[str, ...]
    labels: tuple[Ids, ...]
    knowledge: tuple[Question, ...]

    def write(self, folder: Path) -> None:
        """Write questions.json."""
        (folder / FILE).write_text(json.dumps(asdict(self), separators=(",", ":")), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> QuestionSet | None:
        """What was written into a folder; None where nothing was."""
        file = folder / FILE
        if not file.is_file():
            return None
        data = json.loads(file.read_text(encoding="utf-8"))
        asked = tuple(
            Asked(**{**one, "prompt": tuple(one["prompt"]), "answer": tuple(one["answer"])})
            for one in data["asked"]
        )
        knowledge = tuple(
            Question(
                field=one["field"],
                prompt=tuple(one["prompt"]),
                choices=tuple(map(tuple, one["choices"])),
                lengths=tuple(one["lengths"]),
                right=one["right"],
            )
            for one in data["knowledge"]
        )
        labels = tuple(map(tuple, data["labels"]))
        return cls(asked=asked, names=tuple(data["names"]), labels=labels, knowledge=knowledge)


def make_questions(
    examples: Sequence[Example],
    task: Task,
    tokenizer: ChatTokenizer,
    *,
    max_length: int | None,
    seed: int = 0,
) -> QuestionSet:
    """The examples in a random but fixed order with the task's labels, and the general knowledge.

    Examples whose answer does not fit into `max_length` tokens are left out.
    """
    names = task.labels
    numbers = {name: number for number, name in enumerate(names)}
    asked = []
    for example in examples:
        split = _split(encode(example, tokenizer, max_length=max_length))
        if split is not None:
            label = None if example.label is None else numbers.get(example.label)
            asked.append(Asked(prompt=split[0], answer=split[1], label=label, text=_request(example)))
    random.Random(seed).shuffle(asked)  # noqa: S311 - reproducible, not secret
    return QuestionSet(
        asked=tuple(asked),
        names=names,
        labels=tuple(_label_ids(task, name, tokenizer) for name in names) if asked else (),
        knowledge=general_knowledge(tokenizer, seed=seed),
    )


def general_knowledge(tokenizer: ChatTokenizer, *, seed: int = 0) -> tuple[Question, ...]:
    """The embedded questions, in a random but fixed order of fields."""
    text = resources.files("lplan.trainer.data").joinpath("general_knowledge.toml").read_text("utf-8")
    rows = [(field, row) for field, rows in tomllib.loads(text).items() for row in rows]
    random.Random(seed).shuffle(rows)  # noqa: S311 - reproducible, not secret
    questions = []
    for field, (question, right, *wrong) in rows:
        prompt, choices = f"Question: {question}\nAnswer:", [f" {choice}" for choice in (right, *wrong)]
        ids = _tokens(tokenizer, [prompt, *choices])
        questions.append(
            Question(field=field, prompt=ids[0], choices=ids[1:], lengths=tuple(map(len, choices)), right=0)
        )
    return tuple(questions)


def prompt_ids(messages: Sequence[Message], tokenizer: ChatTokenizer) -> tuple[Ids, frozenset[int]]:
    """A dialogue that waits for the assistant, in the model's own format, and what ends the answer there."""
    answered = Example(messages=(*messages, Message(role="assistant", content="x")))
    split = _split(encode(answered, tokenizer))
    assert split is not None
    markers = {*tokenizer.get_added_vocab().values(), tokenizer.eos_token_id}
    return split[0], frozenset(split[1][-1:]) & markers


def _tokens(tokenizer: ChatTokenizer, texts: list[str]) -> tuple[Ids, ...]:
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["input_ids"]
    return tuple(map(tuple, encoded))


def _split(encoded: Encoded) -> tuple[Ids, Ids] | None:
    """Prompt and last answer; None where cutting left nothing of either."""
    end = len(encoded.labels)
    while end and encoded.labels[end - 1] == IGNORED:
        end -= 1
    start = end
    while start and encoded.labels[start - 1] != IGNORED:
        start -= 1
    return (encoded.input_ids[:start], encoded.input_ids[start:end]) if 0 < start < end else None


def _label_ids(task: Task, name: str, tokenizer: ChatTokenizer) -> Ids:
    messages = (
        *([Message(role="system", content=task.system_prompt)] if task.system_prompt else []),
        Message(role="user", content="x"),
        Message(role="assistant", content=task.responses[name]),
    )
    split = _split(encode(Example(messages=messages), tokenizer))
    assert split is not None
    return split[1]


def _request(example: Example) -> str:
    return next(m.content for m in reversed(example.messages) if m.role == "user")
