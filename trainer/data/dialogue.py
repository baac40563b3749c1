"""Dialogues as text: what the model reads, with the places that carry loss and those that may be cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jinja2 import TemplateError

from ...planner.chat import LLAMA_2
from ...profiles.errors import LplanError, UsageError
from .chat_template import ChatTemplateError
from .examples import Example, Message
from .tokenizer import ChatTokenizer

Template = Literal["auto", "chat", "llama-2"]
Span = tuple[int, int]
"""Characters [start, end) of a text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialogue:
    """A rendered example: assistant turns without their end token, user texts, both in order."""

    text: str
    answers: tuple[Span, ...]
    requests: tuple[Span, ...]


class Renderer:
    """Renders examples with the model's own chat template, or in the instruction format of Llama 2."""

    def __init__(self, tokenizer: ChatTokenizer, template: Template) -> None:
        if template == "chat" and not tokenizer.chat_template:
            raise UsageError("the model has no chat template", hint="use the template llama-2, or auto")
        own = template != "llama-2" and tokenizer.chat_template
        self.own_template = bool(own)
        self._template = None if own else LLAMA_2
        self._tokenizer = tokenizer
        self.merges_system = False
        """Whether the system message had to be put in front of a request."""

    def dialogue(self, example: Example) -> Dialogue:
        """The example as text. A template that takes no system message gets it before the first request.

        Raises LplanError when the template refuses the dialogue.
        """
        messages = list(example.messages)
        if not self.merges_system:
            try:
                return self._rendered(messages)
            except (ChatTemplateError, TemplateError) as error:
                merged = _without_system(messages)
                if merged == messages:
                    raise _refused(error) from error
        try:
            dialogue = self._rendered(_without_system(messages))
        except (ChatTemplateError, TemplateError) as error:
            raise _refused(error) from error
        self.merges_system = True
        return dialogue

    def _rendered(self, messages: list[Message]) -> Dialogue:
        text = self._text(messages)
        answers, requests, cursor = [], [], 0
        for turn, message in enumerate(messages):
            if message.role == "assistant":
                prompt = self._text(messages[:turn], add_generation_prompt=True)
                span = _answer_span(text, message, prompt, cursor, last=turn == len(messages) - 1)
                answers += [span] if span else []
            else:
                span = _content_span(text, message, cursor)
                requests += [span] if span and message.role == "user" else []
            cursor = span[1] if span else cursor
        return Dialogue(text=text, answers=tuple(answers), requests=tuple(requests))

    def _text(self, messages: list[Message], *, add_generation_prompt: bool = False) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in messages],
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        )


def _answer_span(text: str, message: Message, prompt: str, cursor: int, *, last: bool) -> Span | None:
    """From where generation would start to the end of the answer's content.

    Templates may render a turn of the past otherwise than the last one (without its reasoning, or with another
    generation prompt): a past answer that isn't found in the text is skipped, the last extends to the text's end.
    """
    start = max(_shared(prompt, text), cursor)
    begin = start + len(text[start:]) - len(text[start:].lstrip())
    content = message.content.strip()
    if text.startswith(content, begin):
        return start, begin + len(content)
    found = text.rfind(content, begin) if last else text.find(content, begin)
    if found >= 0:
        return start, found + len(content)
    return (start, len(text.rstrip())) if last else None


def _shared(a: str, b: str) -> int:
    """Characters at the beginning that both texts have."""
    if b.startswith(a):
        return len(a)
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _content_span(text: str, message: Message, cursor: int) -> Span | None:
    content = message.content.strip()
    found = text.find(content, cursor)
    return (found, found + len(content)) if found >= 0 else None


def _without_system(messages: list[Message]) -> list[Message]:
    """The same dialogue with a system message put in front of the first request."""
    if messages[0].role != "system" or len(messages) < 2 or messages[1].role != "user":
        return messages
    merged = f"{messages[0].content}\n\n{messages[1].content}"
    return [Message(role="user", content=merged), *messages[2:]]


def _refused(error: Exception) -> LplanError:
    return LplanError(
        f"the model's chat template refuses a dialogue: {error}",
        hint="turns must alternate between user and assistant; the template llama-2 takes any model",
    )
