"""From a configuration and a recipe to a Footprint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..footprint import Footprint, Linear, peaks
from ..polynomial import Shape, evaluate, symbolize, term
from ..recipe import Recipe
from ..stream import REPEATED, NotPeriodicError, Stream, TracedStorage, check_extends
from .classify import blocks, name_components
from .depth import Depth, choose_depth, cut
from .device import on_device, prepare_device
from .model import build, make_config, wrap
from .objective import output_head
from .step import TracedStep, layer_of
from .tracker import Storage, StorageTracker
from .work import total_work

_PRIMES = ((127, 509, 101), (113, 491, 97))
"""(batch, sequence, chunk) of the trace and of its check; supervised tokens are three chunks."""


class _ShapeDependentError(Exception):
    """A storage's size is no polynomial, or the graph changes with the shape."""


@dataclass(frozen=True, slots=True)
class _Recording:
    """One traced run."""

    tracker: StorageTracker
    model: nn.Module
    depth: Depth
    shape: Shape
    chunkable: bool


def trace(
    config_values: Mapping[str, Any], recipe: Recipe, shape: Shape, *, trust_remote_code: bool = False
) -> Footprint:
    """The footprint of `recipe` on the model of a config.json's content.

    Valid for every batch shape unless `Footprint.shape` is set, which happens where the graph itself
    depends on the shape; then it holds for `shape`.
    """
    config = make_config(config_values, trust_remote_code=trust_remote_code)
    values = {**config.to_dict(), "model_type": config.model_type}
    depth = choose_depth(config, recipe.checkpoint_period)
    for attempt in (depth, Depth(depth.layers, depth.period, depth.layers)):
        try:
            return _polynomial(values, config, recipe, attempt)
        except NotPeriodicError:
            continue
        except _ShapeDependentError:
            return _at_shape(values, config, recipe, attempt, shape)
    raise AssertionError("a whole trace is always periodic")


def _polynomial(values: Mapping[str, Any], config: Any, recipe: Recipe, depth: Depth) -> Footprint:
    first, check = (_record(values, config, recipe, depth, shape) for shape in _shapes(config))
    storages = [_traced(storage, first) for storage in first.tracker.storages]
    _verify(storages, first, check)
    return _footprint(first, storages, None)


def _at_shape(
    values: Mapping[str, Any], config: Any, recipe: Recipe, depth: Depth, shape: Shape
) -> Footprint:
    recording = _record(values, config, recipe, depth, shape)
    storages = [
        TracedStorage(term("1", s.size_bytes), s.component or "temporaries")
        for s in recording.tracker.storages
    ]
    return _footprint(recording, storages, shape)


def _shapes(config: Any) -> Iterable[Shape]:
    longest = getattr(config, "max_position_embeddings", None) or 1 << 20
    for batch, seq, chunk in _PRIMES:
        yield Shape(
            batch=batch,
            seq=seq if seq < longest else _prime_below(longest, seq),
            supervised=3 * chunk,
            chunk=chunk,
        )


def _prime_below(limit: int, avoid: int) -> int:
    found = [n for n in range(limit - 1, 16, -1) if all(n % d for d in range(2, int(n**0.5) + 1))]
    return found[avoid % 2] if len(found) > 1 else limit


def _record(values: Mapping[str, Any], config: Any, recipe: Recipe, depth: Depth, shape: Shape) -> _Recording:
    reduced = config if depth.whole else make_config(cut(config, values, depth.traced))
    with on_device("meta"):
        model = wrap(build(reduced, recipe), recipe)
    tracker = StorageTracker(mask_is_full=recipe.padding == "none")
    with prepare_device(model, recipe):
        step = TracedStep(model, recipe, shape, tracker)
        step.run()
    name_components(tracker)
    return _Recording(tracker, model, depth, shape, step.logits_untouched)


def _verify(storages: Sequence[TracedStorage], first: _Recording, check: _Recording) -> None:
    ours = [(s.phase, s.stage, s.layer, s.events) for s in first.tracker.segments]
    theirs = [(s.phase, s.stage, s.layer, s.events) for s in check.tracker.segments]
    if ours != theirs:
        raise _ShapeDependentError("the graph changes with the shape")
    values = check.shape.values()
    for predicted, storage in zip(storages, check.tracker.storages, strict=True):
        if evaluate(predicted.size, values) != storage.size_bytes:
            raise _ShapeDependentError(f"no polynomial: {storage.dimensions}")


def _traced(storage: Storage, recording: _Recording) -> TracedStorage:
    size = symbolize(storage.size_bytes, storage.dimensions, storage.itemsize, recording.shape)
    if size is None:
        raise _ShapeDependentError(f"no monomial: {storage.dimensions}")
    return TracedStorage(size, storage.component or "temporaries")


def _footprint(recording: _Recording, storages: Sequence[TracedStorage], shape: Shape | None) -> Footprint:
    depth, model = recording.depth, recording.model
    stream = Stream(storages, blocks(recording.tracker, depth))
    if not depth.whole:
        check_extends(stream)
    found = peaks(stream, extends=not depth.whole)
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    embeddings, head = base.get_input_embeddings(), output_head(base)
    shared = embeddings.weight is head.weight
    return Footprint(
        architecture=type(base).__name__,
        layers=depth.layers,
        period=depth.period,
        traced_layers=depth.traced,
        target_modules=_target_modules(model),
        phases={name: found[name] for name in ("first step", "steady step", "evaluation")},
        work=total_work(recording.tracker, depth, recording.shape),
        parameters=_count((p for p in model.named_parameters() if ".lora_" not in p[0]), depth),
        trainable_parameters=_count((p for p in model.named_parameters() if p[1].requires_grad), depth),
        embedding_bytes=embeddings.weight.nbytes,
        shared_head=shared,
        chunkable=recording.chunkable,
        shape=shape,
    )


def _target_modules(model: nn.Module) -> tuple[str, ...]:
    config = getattr(model, "peft_config", None)
    return tuple(sorted(config["default"].target_modules)) if config else ()


def _count(named: Iterable[tuple[str, nn.Parameter]], depth: Depth) -> Linear:
    total = repeated = 0
    for name, parameter in named:
        total += parameter.numel()
        repeated += parameter.numel() if depth.unit(layer_of(name)) == REPEATED else 0
    return Linear(term("1", total), term("1", repeated))
