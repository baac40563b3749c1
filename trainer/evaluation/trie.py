"""Answers as a radix trie: what they share is scored once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Ids = tuple[int, ...]


@dataclass(slots=True)
class Node:
    """`edge` are the tokens since the parent; `answer` is the number of the answer that ends here, if one does."""

    edge: Ids
    path: Ids
    """All tokens since the root, the edge included."""
    answer: int | None = None
    children: list[Node] = field(default_factory=list)


def radix_trie(answers: Sequence[Ids]) -> Node:
    """The trie of answers, none of which begins another (each ends with a token that ends it).

    Raises ValueError where two are equal or one begins another: neither could be told apart by its likelihood.
    """
    root = Node(edge=(), path=())
    _grow(root, sorted((tokens, number) for number, tokens in enumerate(answers)))
    return root


def _grow(node: Node, answers: Sequence[tuple[Ids, int]]) -> None:
    depth = len(node.path)
    by_first: dict[int, list[tuple[Ids, int]]] = {}
    for tokens, number in answers:
        if len(tokens) == depth:
            raise ValueError("two answers are the same, or one begins another")
        by_first.setdefault(tokens[depth], []).append((tokens, number))
    for group in by_first.values():
        end = _shared(group, depth) if len(group) > 1 else len(group[0][0])
        path = group[0][0][:end]
        child = Node(edge=path[depth:], path=path)
        node.children.append(child)
        if len(group) == 1:
            child.answer = group[0][1]
        else:
            _grow(child, group)


def _shared(group: Sequence[tuple[Ids, int]], depth: int) -> int:
    """How many tokens all answers of a sorted group begin with: the first and the last differ soonest."""
    first, last = group[0][0], group[-1][0]
    end = depth
    while end < min(len(first), len(last)) and first[end] == last[end]:
        end += 1
    return end
