"""Gets footprints: from the store, or from a tracing process that is started for those that are missing.

The process is a child, so that the caller never imports torch, a model's code cannot harm it, and its memory
right after the imports is the import baseline of a real run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, cast

from ..profiles.errors import EXIT_USAGE, LplanError, UsageError
from ..profiles.model import ModelProfile
from .allocator import environment_of
from .footprint import Footprint, footprint_from_dict
from .polynomial import Shape
from .recipe import Recipe
from .runtime import Baseline, shipped_baseline
from .store import FootprintStore

_BASELINE = "baseline"
Progress = Callable[[int, int], object]


def footprints(
    model: ModelProfile,
    requests: Sequence[tuple[Recipe, Shape]],
    *,
    store: FootprintStore | None = None,
    progress: Progress | None = None,
) -> list[Footprint | LplanError]:
    """The footprint of each (recipe, shape); an LplanError in its place where the libraries refuse it.

    Raises LplanError when the tracing process itself fails. `progress(done, of)` is called as traces arrive.
    """
    store = store or FootprintStore()
    answers: dict[tuple[Recipe, Shape], Footprint | LplanError] = {}
    while wanted := _wanted(model, requests, store, answers):
        for done, (request, answer) in enumerate(_trace(model, wanted, store), start=1):
            answers |= {other: answer for other in requests if _answers(answer, request, other)}
            if isinstance(answer, Footprint):
                store.keep(model.config, request[0], answer)
            if progress is not None:
                progress(done, len(wanted))
    return [answers[request] for request in requests]


def _wanted(
    model: ModelProfile,
    requests: Sequence[tuple[Recipe, Shape]],
    store: FootprintStore,
    answers: dict[tuple[Recipe, Shape], Footprint | LplanError],
) -> list[tuple[Recipe, Shape]]:
    """What neither the answers nor the store hold; fills answers from the store.

    One shape of every graph is enough, until its answer turns out not to hold for the others.
    """
    known = {recipe.graph() for recipe, _ in answers}
    wanted: dict[Any, tuple[Recipe, Shape]] = {}
    stored: dict[Recipe, Footprint] = {}
    for request in requests:
        if request not in answers:
            found = stored.get(request[0].graph())
            if found is None or not found.holds(request[1]):
                found = store.find(model.config, *request)
            if found is not None:
                stored[request[0].graph()] = found
                answers[request] = found
            else:
                graph = request[0].graph()
                wanted.setdefault((graph, request[1]) if graph in known else graph, request)
    return [
        (recipe, shape)
        for recipe, shape in wanted.values()
        if recipe.accumulation > 1
        or several(recipe).graph() not in {other.graph() for other, _ in wanted.values()}
    ]


def single(recipe: Recipe) -> Recipe:
    """The recipe with one micro batch a step."""
    return replace(recipe, accumulation=1)


def several(recipe: Recipe) -> Recipe:
    """The recipe with several micro batches a step: its trace shows a single one as well."""
    return replace(recipe, accumulation=max(2, recipe.accumulation))


def _answers(
    answer: Footprint | LplanError, request: tuple[Recipe, Shape], other: tuple[Recipe, Shape]
) -> bool:
    """Whether the answer to one request is the answer to another: the same knobs, a shape it holds for."""
    if request == other:
        return True
    same_graph = request[0].graph() == other[0].graph()
    return same_graph and (isinstance(answer, LplanError) or answer.holds(other[1]))


def footprint(
    model: ModelProfile, recipe: Recipe, shape: Shape, store: FootprintStore | None = None
) -> Footprint:
    """One footprint. Raises LplanError where the libraries refuse the recipe."""
    (answer,) = footprints(model, [(recipe, shape)], store=store)
    if isinstance(answer, LplanError):
        raise answer
    return answer


def baseline(store: FootprintStore | None = None) -> Baseline:
    """The import baseline: as measured here by the last tracing process, else the shipped one."""
    fact = (store or FootprintStore()).find_fact(_BASELINE)
    return shipped_baseline() if fact is None else Baseline(**fact)


class Footprints:
    """One model's footprints, asked for one by one: from the store, else from a tracing process that stays open.

    A context manager: leaving it ends the process. `progress(done)` is called as traces arrive.
    """

    def __init__(self, model: ModelProfile, progress: Callable[[int], object] | None = None) -> None:
        self._model, self._store, self._progress = model, FootprintStore(), progress
        self._found: dict[Recipe, list[Footprint | LplanError]] = {}
        self._missing: set[tuple[Recipe, Shape]] = set()
        """Graphs that the store did not hold when it was last asked: a trace may have put them there since."""
        self._asked: deque[tuple[Recipe, Shape]] = deque()
        self._answers: Any = None
        self.traced = 0

    def __enter__(self) -> Footprints:
        return self

    def __exit__(self, *_: object) -> None:
        if self._answers is not None:
            self._answers.close()

    def known(self, recipe: Recipe, shape: Shape) -> Footprint | LplanError | None:
        """What needs no trace; None for what does."""
        graph = recipe.graph()
        found = self._found.setdefault(graph, [])
        for answer in found:
            if isinstance(answer, LplanError) or answer.holds(shape):
                return answer
        if (graph, shape) in self._missing:
            return None
        stored = self._store.find(self._model.config, recipe, shape)
        if stored is None:
            self._missing.add((graph, shape))
        else:
            found.append(stored)
        return stored

    def get(self, recipe: Recipe, shape: Shape) -> Footprint | LplanError:
        """The footprint, or why the libraries refuse it. Raises LplanError when the tracing process itself fails."""
        answer = self.known(recipe, shape)
        if answer is None and recipe.accumulation == 1 and self.known(several(recipe), shape) is None:
            self._traced(several(recipe), shape)
            answer = self.known(recipe, shape)
        return self._traced(recipe, shape) if answer is None else answer

    def _traced(self, recipe: Recipe, shape: Shape) -> Footprint | LplanError:
        if self._answers is None:
            self._answers = _trace(self._model, iter(self._asked.popleft, None), self._store)
        self._asked.append((recipe, shape))
        _, traced = next(self._answers)
        self._missing.clear()
        self._found.setdefault(recipe.graph(), []).append(traced)
        if isinstance(traced, Footprint):
            self._store.keep(self._model.config, recipe, traced)
        self.traced += 1
        if self._progress is not None:
            self._progress(self.traced)
        return cast("Footprint | LplanError", traced)


def _trace(
    model: ModelProfile, requests: Iterable[tuple[Recipe, Shape]], store: FootprintStore
) -> Iterator[tuple[tuple[Recipe, Shape], Footprint | LplanError]]:
    """Answers in the order of the requests, each of which is drawn when the one before it is answered.

    What a trace says of a single micro batch a step goes into the store beside it.
    """
    environment = {
        **os.environ,
        **environment_of("pinned", threads=1),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
    }
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "lplan.planner.tracing"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True,
        ) as child,
    ):  # fmt: skip
        _tell(child, {"config": dict(model.config), "trust_remote_code": model.trust_remote_code})
        for recipe, shape in requests:
            _tell(child, [recipe.graph().to_dict(), asdict(shape)])
            answer = _next_answer(child, store)
            if answer is None:
                assert child.stdin is not None
                with suppress(BrokenPipeError):
                    child.stdin.close()
                child.wait()
                errors.seek(0)
                why = _ending(child.returncode, errors.read())
                raise LplanError(
                    f"tracing {model.id} failed: {why}", hint="run again with --debug to see where"
                )
            if "single" in answer:
                store.keep(model.config, single(recipe), footprint_from_dict(answer["single"]))
            yield (recipe, shape), _answer(answer)


def _tell(child: subprocess.Popen[str], message: Any) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.write(json.dumps(message, default=str) + "\n")
        child.stdin.flush()


def _next_answer(child: subprocess.Popen[str], store: FootprintStore) -> dict[str, Any] | None:
    """The next footprint or refusal; the import baseline on the way is kept. None where the process ended."""
    assert child.stdout is not None
    for line in child.stdout:
        if not line.endswith("\n"):
            break
        answer: dict[str, Any] = json.loads(line)
        if "baseline" not in answer:
            return answer
        store.keep_fact(_BASELINE, answer["baseline"])
    return None


def _ending(returncode: int, errors: str) -> str:
    if returncode < 0:
        return f"its process was ended by {signal.Signals(-returncode).name}"
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"its process ended with status {returncode}"


def _answer(data: Mapping[str, Any]) -> Footprint | LplanError:
    if "error" in data:
        kind = UsageError if data["exit_code"] == EXIT_USAGE else LplanError
        return kind(data["error"], hint=data["hint"])
    return footprint_from_dict(data["footprint"])
