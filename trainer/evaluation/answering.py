"""Answers of a base with its adapters: loaded once, switched between answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...planner.documents import read_plan
from ...planner.tracing.step import autocast
from ...profiles.checkpoint import SAFETENSORS, weight_names
from ...profiles.errors import LplanError, UsageError
from ..data.examples import Message
from ..data.tasks import find_task
from ..data.tokenizer import load_tokenizer
from ..loading import load_base
from ..prepare import tokenizer_of
from .adapters import Source, add_adapter, base_of, find_source, read_config, with_adapter
from .generation import generate, stop_tokens
from .questions import prompt_ids

SCHEMA = "lplan.generate/1"
BASE = "base"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What is asked for. At temperature 0 the likeliest token is taken, above it tokens are drawn by `seed`."""

    prompt: str
    system: str | None = None
    """None for the system prompt of the task that the run was trained on, if it has one."""
    most_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A base or an adapter in memory: the bytes of its tensors."""

    name: str
    held_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One answer. `ended`: by the model itself, not by the number of tokens."""

    by: str
    text: str
    tokens: int
    ended: bool
    first_token_s: float
    tokens_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """What was asked and all that came of it."""

    wish: Wish
    base: Held
    adapters: tuple[Held, ...]
    prompt_tokens: int
    answers: tuple[Answer, ...]

    def document(self) -> dict[str, Any]:
        """`lplan generate --json`."""
        return {"schema": SCHEMA, **asdict(self)}


class Answering:
    """A base, and adapters of which one at a time is on.

    Raises UsageError for folders that hold no adapter or one of another base, LplanError for what cannot be
    loaded.
    """

    def __init__(self, paths: Sequence[Path], base: Path | None) -> None:
        sources = [find_source(path) for path in paths]
        first = sources[0]
        if base is None:
            _require_one_base(sources)
        self._recipe = None if first.job is None else first.job.recipe
        self._threads()
        plan = None if first.run is None else read_plan(first.run / "plan.json")
        where = base or (base_of(first.folder) if plan is None else tokenizer_of(plan.estimate.model))
        self._tokenizer: Any = load_tokenizer(where)
        self.task_system = (
            None if plan is None or plan.data is None else find_task(plan.data.task).system_prompt
        )
        self._model: Any = _loaded(first, base)
        name = plan.estimate.model.id if plan is not None and base is None else Path(where).name
        if not first.adapts:
            name = first.name
        self.base = Held(name=name, held_bytes=_bytes(self._model))
        self._names: dict[str, str] = {}
        self.adapters = tuple(self._add(source) for source in sources if source.adapts)

    @property
    def choices(self) -> tuple[str, ...]:
        """Who can answer: the adapters, or a model trained whole."""
        return tuple(self._names) or (self.base.name,)

    def prompt(self, wish: Wish) -> tuple[tuple[int, ...], frozenset[int]]:
        """The dialogue as the model reads it, and what ends its answer. Raises UsageError for one too long."""
        system = self.task_system if wish.system is None else wish.system
        messages = [Message(role="system", content=system)] if system else []
        ids, ends = prompt_ids([*messages, Message(role="user", content=wish.prompt)], self._tokenizer)
        context = getattr(self._model.config, "max_position_embeddings", None)
        if context is not None and len(ids) + wish.most_tokens > context:
            raise UsageError(
                f"{len(ids)} tokens of prompt and {wish.most_tokens} of answer are more than the model's "
                f"context of {context}",
                hint="ask for fewer by --max-tokens, or shorten the prompt",
            )
        return ids, ends | stop_tokens(self._model)

    def answer(self, by: str, wish: Wish, say: Callable[[str], object]) -> Answer:
        """One answer by an adapter (or BASE); `say` gets its text as it is made."""
        ids, stop = self.prompt(wish)
        tokens: list[int] = []
        told, times = "", [time.monotonic()]
        with self._as(by), self._autocast():
            for token in generate(
                self._model, ids, most=wish.most_tokens, stop=stop, temperature=wish.temperature, seed=wish.seed
            ):  # fmt: skip
                tokens.append(token)
                times.append(time.monotonic())
                text = self._tokenizer.decode(tokens)
                if not text.endswith("\ufffd"):  # half a character
                    say(text[len(told) :])
                    told = text
        text = self._tokenizer.decode(tokens)
        say(text[len(told) :])
        behind_s = times[-1] - times[1] if len(times) > 2 else 0.0
        return Answer(
            by=by,
            text=text,
            tokens=len(tokens),
            ended=len(tokens) < wish.most_tokens,
            first_token_s=round(times[1] - times[0], 4) if tokens else 0.0,
            tokens_per_s=round((len(tokens) - 1) / behind_s, 2) if behind_s else 0.0,
        )

    def _add(self, source: Source) -> Held:
        before, number = _bytes(self._model), f"adapter{len(self._names)}"
        if self._names:
            add_adapter(self._model, source.folder, number)
        else:
            self._model = with_adapter(self._model, source.folder, number)
        name = source.name if source.name not in (*self._names, BASE) else f"{source.name} ({number})"
        self._names[name] = number
        return Held(name=name, held_bytes=_bytes(self._model) - before)

    def _as(self, by: str) -> AbstractContextManager[Any]:
        if by == BASE and self._names:
            return self._model.disable_adapter()  # type: ignore[no-any-return]
        if self._names:
            self._model.set_adapter(self._names[by])
        return nullcontext()

    def _autocast(self) -> AbstractContextManager[Any]:
        recipe = self._recipe
        return nullcontext() if recipe is None else autocast(recipe, recipe.device)

    def _threads(self) -> None:
        if self._recipe is not None:
            torch.set_num_threads(self._recipe.threads)


def _require_one_base(sources: Sequence[Source]) -> None:
    """Raises UsageError where adapters name different bases."""
    if len(sources) > 1 and (whole := next((s for s in sources if not s.adapts), None)):
        raise UsageError(f"{whole.name} is a model trained whole, not an adapter", hint="ask it alone")
    names = [_base_name(source) for source in sources]
    for source, name in zip(sources, names, strict=True):
        if name != names[0]:
            raise UsageError(
                f"{source.name} is an adapter of {name}, {sources[0].name} one of {names[0]}",
                hint="adapters share a base; if these do, say which by --model DIR",
            )


def _base_name(source: Source) -> str:
    named = source.job.model if source.job is not None else None
    if source.adapts and source.job is None:
        named = read_config(source.folder).get("base_model_name_or_path")
    here = Path(str(named or ""))
    return str(here.resolve()) if here.is_dir() else str(named)


def _loaded(source: Source, base: Path | None) -> nn.Module:
    """The base of an adapter, or the model that was trained whole, in evaluation mode."""
    if source.job is not None:
        folder = source.folder if not source.adapts else base
        job = source.job
        if folder is not None:
            job = replace(job, model=str(folder), recipe=replace(job.recipe, init="pretrained"))
        return load_base(job).eval()
    return load_plain(base or base_of(source.folder))


def load_plain(folder: Path) -> nn.Module:
    """A model folder in its own dtype, on a GPU if there is one.

    Raises LplanError for what cannot be loaded, and for an index that names files of other folders.
    """
    from transformers import AutoModelForCausalLM

    weight_names(folder, SAFETENSORS)
    try:
        model: nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", use_safetensors=True)
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LplanError(f"{folder} cannot be loaded: {line}", hint="check its safetensors files") from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _bytes(model: nn.Module) -> int:
    """What a model's tensors hold; those that share memory count once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in (*model.parameters(), *model.buffers())
    }
    return sum(storages.values())
