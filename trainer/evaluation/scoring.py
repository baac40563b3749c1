"""Likelihoods of answers after prompts, exact, with each prompt computed once.

B: prompts of one length that are scored together. P: their tokens. V: vocabulary. Prompts are grouped by length,
so that no row is padded on the left and no mask is needed; what follows a prompt is padded on the right, where
a causal model does not look. Only the logits that are asked for are ever made.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...planner.tracing.objective import output_head
from .trie import Node

Ids = tuple[int, ...]


class Prompts:
    """Prompts of one length behind which continuations are tried; the keys and values of a prompt are kept.

    Where a model keeps something else than plain keys and values (a state, a window), prompts are
    computed again with every continuation.
    """

    def __init__(self, model: nn.Module, prompts: Sequence[Ids]) -> None:
        self._model = model
        self._ids = torch.tensor(prompts)
        self._device = next(model.parameters()).device
        self._cache: Any = None
        self.first = self._prefill()
        """(B, V) log-likelihoods of the token behind each prompt, fp32."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these prompts only."""
        index = torch.tensor(rows)
        self._ids = self._ids[index]
        self.first = self.first[index.to(self._device)]
        if self._cache is not None:
            self._cache.batch_select_indices(index.to(self._device))

    def behind(self, continuations: Sequence[Ids]) -> list[Tensor]:
        """(len, V) log-likelihoods behind every token of one continuation for each prompt."""
        longest = max(map(len, continuations))
        padded = torch.zeros((len(continuations), longest), dtype=torch.long)
        for row, tokens in enumerate(continuations):
            padded[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        width = self._ids.shape[1]
        if self._cache is None:
            ids, start = torch.cat([self._ids, padded], 1), width
        else:
            ids, start = padded, 0
        places = [
            row * ids.shape[1] + start + i
            for row, tokens in enumerate(continuations)
            for i in range(len(tokens))
        ]
        logits = self._forward(ids, places)
        if self._cache is not None:
            self._cache.crop(-padded.shape[1])  # a negative number removes so many tokens
        return list(torch.split(logits, [len(tokens) for tokens in continuations]))

    def likelihoods(self, answers: Sequence[Ids]) -> list[float]:
        """Log-likelihood of one answer for each prompt, of at least one token."""
        fed = [tokens[:-1] for tokens in answers]
        logs = self.behind(fed) if any(fed) else [self.first[:0]] * len(fed)
        return [
            float(first[tokens[0]]) + _picked(behind, tokens[1:])
            for first, tokens, behind in zip(self.first, answers, logs, strict=True)
        ]

    def _prefill(self) -> Tensor:
        rows, width = self._ids.shape
        last = [row * width + width - 1 for row in range(rows)]
        return self._forward(self._ids, last, fill=True)

    def _forward(self, ids: Tensor, places: Sequence[int], *, fill: bool = False) -> Tensor:
        """(N, V) log-likelihoods at flattened places of a batch (B, S)."""
        index = torch.tensor(places, device=self._device)

        def select(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            return (args[0].flatten(0, -2).index_select(0, index),)

        extra: dict[str, Any] = {"use_cache": False}
        if fill or self._cache is not None:
            extra = {"use_cache": True, "past_key_values": self._cache}
        handle = output_head(self._model).register_forward_pre_hook(select)
        try:
            output = self._model(input_ids=ids.to(self._device), **extra)
        finally:
            handle.remove()
        if fill and _is_plain(getattr(output, "past_key_values", None)):
            self._cache = output.past_key_values
        logits: Tensor = output.logits
        return logits.reshape(len(places), -1).float().log_softmax(-1)


def _picked(logs: Tensor, tokens: Ids) -> float:
    """The sum of one log-likelihood a row of `logs` (N, V)."""
    columns = torch.tensor(tokens, dtype=torch.long, device=logs.device)
    return float(logs[torch.arange(len(tokens), device=logs.device), columns].sum())


def _is_plain(cache: Any) -> bool:
    from transformers.cache_utils import DynamicLayer

    layers = getattr(cache, "layers", ())
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def most_likely(state: Prompts, root: Node, rows: int) -> list[tuple[int, float]]:
    """For each prompt the most likely answer of a trie, and its log-likelihood. Uses up the prompts.

    Best first: a branch's likelihood bounds all answers below it, so that what is less likely than a finished
    answer is never computed, and yet the answer is the most likely of all. Where fewer prompts than `rows` are
    undecided, each tries several branches at once: a row more costs little.
    """
    searches = [_Search() for _ in state.first]
    for search, first in zip(searches, state.first, strict=True):
        search.branch(root, 0.0, first)
    held = list(range(len(searches)))
    while True:
        taken = _next_branches(searches, rows)
        if not taken:
            return [search.best for search in searches]
        state.keep([held.index(row) for row, _, _ in taken])
        held = [row for row, _, _ in taken]
        # The end of an answer is scored, never fed.
        fed = [node.path if node.answer is None else node.path[:-1] for _, _, node in taken]
        for (row, bound, node), logs in zip(taken, state.behind(fed), strict=True):
            searches[row].resolve(node, bound, logs)


def _next_branches(searches: Sequence[_Search], rows: int) -> list[tuple[int, float, Node]]:
    """One branch of every undecided search, then second ones while there are rows: (search, bound, node)."""
    taken: list[tuple[int, float, Node]] = []
    undecided = [row for row, search in enumerate(searches) if not search.finished]
    while undecided and (not taken or len(taken) + len(undecided) <= rows):
        taken += [(row, *searches[row].take()) for row in undecided]
        undecided = [row for row in undecided if not searches[row].finished]
    return taken


class _Search:
    """One prompt's branches by what their answers can reach at most."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Node]] = []
        self._count = 0
        self.best: tuple[int, float] = (-1, float("-inf"))

    @property
    def finished(self) -> bool:
        return not self._heap or -self._heap[0][0] <= self.best[1]

    def branch(self, node: Node, reached: float, logs: Tensor) -> None:
        """The children of a node that is `reached` with a log-likelihood; `logs` (V,) is of the token behind it."""
        firsts = logs[torch.tensor([child.edge[0] for child in node.children], device=logs.device)].tolist()
        for child, first in zip(node.children, firsts, strict=True):
            if len(child.edge) == 1 and child.answer is not None:
                self._found(child.answer, reached + first)
            else:
                self._count += 1
                heapq.heappush(self._heap, (-(reached + first), self._count, child))

    def take(self) -> tuple[float, Node]:
        """The branch that may hold the best answer, and the likelihood that its answers reach at most."""
        bound, _, node = heapq.heappop(self._heap)
        return -bound, node

    def resolve(self, node: Node, bound: float, logs: Tensor) -> None:
        """A branch that was taken, with (len, V) log-likelihoods behind each token that was fed."""
        start = len(node.path) - len(node.edge)
        rest = node.edge[1:]
        reached = bound + _picked(logs[start : start + len(rest)], rest)
        if node.answer is not None:
            self._found(node.answer, reached)
        else:
            self.branch(node, reached, logs[len(node.path) - 1])

    def _found(self, answer: int, likelihood: float) -> None:
        if likelihood > self.best[1]:
            self.best = (answer, likelihood)


def likelihoods(model: nn.Module, prompt: Ids, answers: Sequence[Ids], rows: int) -> list[float]:
    """Log-likelihood of every answer behind one prompt, at most `rows` at once."""
    found: list[float] = []
    for start in range(0, len(answers), rows):
        some = answers[start : start + rows]
        state = Prompts(model, [prompt])
        state.keep([0] * len(some))
        found += state.likelihoods(some)
    return found


def in_batches(
    lengths: Sequence[int], rows: int, block: int, until: Callable[[], bool]
) -> Iterator[list[int]]:
    """Indices in batches of one length, while `until` allows another (one always).

    Batches are made block by block, so that what an early end leaves out does not depend on length.
    """
    begun = False
    for start in range(0, len(lengths), block):
        by_length: dict[int, list[int]] = {}
        for index in range(start, min(start + block, len(lengths))):
            by_length.setdefault(lengths[index], []).append(index)
        for group in by_length.values():
            for at in range(0, len(group), rows):
                if begun and not until():
                    return
                begun = True
                yield group[at : at + rows]
