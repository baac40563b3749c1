"""Gets footprints: from the store, or from tracing processes that are started for those that are missing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..profiles.errors import LplanError
from ..profiles.model import ModelProfile
from .footprint import Footprint
from .polynomial import Shape
from .recipe import Recipe
from .runtime import Baseline, shipped_baseline
from .store import FootprintStore
from .tracing_process import BASELINE, TracingProcess, at_once, processes, several

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
    fact = (store or FootprintStore()).find_fact(BASELINE)
    return shipped_baseline() if fact is None else Baseline(**fact)


class Footprints:
    """One model's footprints, asked for one by one: from the store, else from tracing processes that stay open.

    A context manager: leaving it ends them. `progress(done)` is called as traces arrive.
    """

    def __init__(self, model: ModelProfile, progress: Callable[[int], object] | None = None) -> None:
        self._model, self._store, self._progress = model, FootprintStore(), progress
        self._found: dict[Recipe, list[Footprint | LplanError]] = {}
        self._missing: set[tuple[Recipe, Shape]] = set()
        """Graphs that the store did not hold when it was last asked: a trace may have put them there since."""
        self._asked: deque[tuple[Recipe, Shape]] = deque()
        self._awaited: set[Recipe] = set()
        """Graphs that are being traced."""
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

    def get(
        self, recipe: Recipe, shape: Shape, ahead: tuple[Recipe, Shape] | None = None
    ) -> Footprint | LplanError:
        """The footprint, or why the libraries refuse it. Raises LplanError when the tracing process itself fails.

        `ahead` may be asked for next: it is traced beside this one, where there is a core for it.
        """
        while (wanted := self._unknown(recipe, shape)) is not None:
            if wanted.graph() not in self._awaited:
                self._ask(wanted, shape)
                beside = None if ahead is None else self._unknown(*ahead)
                if ahead is not None and beside is not None:
                    self._ask(beside, ahead[1])
            self._receive(wanted.graph())
        answer = self.known(recipe, shape)
        assert answer is not None
        return answer

    def _unknown(self, recipe: Recipe, shape: Shape) -> Recipe | None:
        """What to trace for a footprint: with several micro batches, or itself where that did not tell."""
        if self.known(recipe, shape) is not None:
            return None
        return recipe if self.known(several(recipe), shape) is not None else several(recipe)

    def _ask(self, recipe: Recipe, shape: Shape) -> None:
        if recipe.graph() in self._awaited:
            return
        if self._answers is None:
            self._answers = _trace(self._model, self._requests(), self._store, more=True)
        self._awaited.add(recipe.graph())
        self._asked.append((recipe, shape))

    def _requests(self) -> Iterator[tuple[Recipe, Shape] | None]:
        while True:
            yield self._asked.popleft() if self._asked else None

    def _receive(self, graph: Recipe) -> None:
        """Take answers until this graph's is there."""
        while graph in self._awaited:
            (traced, _), answer = next(self._answers)
            self._awaited.discard(traced.graph())
            self._missing.clear()
            self._found.setdefault(traced.graph(), []).append(answer)
            if isinstance(answer, Footprint):
                self._store.keep(self._model.config, traced, answer)
            self.traced += 1
            if self._progress is not None:
                self._progress(self.traced)


def _trace(
    model: ModelProfile,
    requests: Iterable[tuple[Recipe, Shape] | None],
    store: FootprintStore,
    *,
    more: bool = False,
) -> Iterator[tuple[tuple[Recipe, Shape], Footprint | LplanError]]:
    """Answers in the order of the requests, which are drawn as processes are free for them; None: no more for now.

    Where `more` are to be expected, processes for them are started at once.
    """
    drawn, most = iter(requests), at_once()
    running: deque[tuple[tuple[Recipe, Shape], TracingProcess]] = deque()
    with processes() as some:
        try:
            while True:
                while len(running) < most and (request := next(drawn, None)) is not None:
                    running.append((request, some.take()))
                    running[-1][1].ask(model, *request)
                if not running:
                    return
                if more:
                    some.prepare(most - len(running))
                answer = running[0][1].answer(store)
                request, process = running.popleft()
                some.give_back(process)
                yield request, answer
        finally:
            for _, process in running:
                process.close()
