"""From a configuration and a recipe to a Footprint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ...profiles.errors import LplanError, UsageError, first_line
from ..estimate import STEPS
from ..footprint import Footprint, Instant, Linear
from ..polynomial import MONOMIALS, Shape, evaluate, plus, symbolize, term
from ..recipe import Recipe
from ..stream import REPEATED, NotPeriodicError, Stream, TracedStorage, check_extends
from .adapters import adapted_names, adapted_weights, is_added, read_on_wrapping
from .classify import blocks, name_components
from .contents import experts_of
from .cuda import scratch
from .depth import Depth, choose_depth, cut, whole_depth
from .device import STAND_INS, StandIn, on_device, prepare_device
from .excerpt import Excerpt, brief, single
from .gathering import LOGITS_AND_LABELS, Kept, gathered
from .kinds import Stack
from .loading import layer_of
from .model import build, decoder_layers, make_config, text_config, wrap
from .objective import as_built, head_of
from .packing import kept_apart
from .peaks import peaks
from .quantized import parameter_sizes
from .shapes import CHUNKS, Lengths, lengths_around, prime_shapes
from .step import TracedStep
from .tracker import PerTokenLoopError, Segment, Storage, StorageTracker
from .work import total_work

_EVENTS_A_TOKEN = 4
"""A layer that makes more storages than this for every token of a sequence loops over them."""


class _ShapeDependentError(Exception):
    """A storage's size is no polynomial, or the graph changes with the shape."""


@dataclass(frozen=True, slots=True)
class _Recording:
    """One traced run, or an excerpt of one."""

    segments: Sequence[Segment]
    storages: Sequence[Storage]
    products: tuple[int, ...]
    """Results of each thread's first matrix product, all of a first micro batch, by index."""
    model: nn.Module
    depth: Depth
    shape: Shape
    chunkable: bool
    asked: str
    """The recipe's attention."""
    kept: tuple[Kept, ...]
    """Of an evaluation batch."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A recipe's footprint, and that of the same with a single micro batch a step, where the trace shows it too."""

    footprint: Footprint
    single: Footprint | None = None


def trace(
    config_values: Mapping[str, Any], recipe: Recipe, shape: Shape, *, trust_remote_code: bool = False
) -> Footprint:
    """The footprint of `recipe` on the model of a config.json's content, for `shape` and those it `holds` for.

    Raises LplanError where the libraries refuse the model or the recipe.
    """
    return trace_both(config_values, recipe, shape, trust_remote_code=trust_remote_code).footprint


def trace_both(
    config_values: Mapping[str, Any], recipe: Recipe, shape: Shape, *, trust_remote_code: bool = False
) -> Traced:
    """As `trace`, with what the same trace says of a single micro batch."""
    config = make_config(config_values, trust_remote_code=trust_remote_code)
    stack = _stack(config, recipe)
    few = choose_depth(text_config(config), recipe.checkpoint_period, stack.kinds_under(recipe))
    if not few.whole:
        with suppress(NotPeriodicError):
            return _traced_around(_Tracer(config, recipe, few, stack), shape)
    return _traced_around(_Tracer(config, recipe, whole_depth(few.layers), stack), shape)


def trace_whole(config_values: Mapping[str, Any], recipe: Recipe, shape: Shape) -> Footprint:
    """The footprint for one shape, with every layer traced: what `trace` has to agree with."""
    config = make_config(config_values)
    stack = _stack(config, recipe)
    return _Tracer(config, recipe, whole_depth(len(stack.kinds)), stack).for_shape(shape).footprint


def planned_depth(config_values: Mapping[str, Any], recipe: Recipe) -> Depth:
    """The layers that `trace` tries first."""
    config = make_config(config_values)
    kinds = _stack(config, recipe).kinds_under(recipe)
    return choose_depth(text_config(config), recipe.checkpoint_period, kinds)


def _stack(config: Any, recipe: Recipe) -> Stack:
    """The whole model's layers: wrapped where the adapters may differ from layer to layer."""
    with on_device("meta"):
        model = build(config, recipe)
        if recipe.names_layers:
            model = wrap(model, recipe)
    return Stack(model, decoder_layers(model))


def _traced_around(tracer: _Tracer, shape: Shape) -> Traced:
    """One that holds for many shapes, else (the graph changes with the shape, or refuses others) for this one."""
    try:
        return tracer.for_lengths(lengths_around(tracer.config, shape.seq))
    except UsageError:
        raise
    except (_ShapeDependentError, LplanError):
        return tracer.for_shape(shape)


class _Tracer:
    """Traces one recipe on one stack of layers."""

    def __init__(self, config: Any, recipe: Recipe, depth: Depth, stack: Stack) -> None:
        self.config, self.recipe, self.depth, self.stack = config, recipe, depth, stack
        self.stand_ins = STAND_INS

    def for_lengths(self, lengths: Lengths) -> Traced:
        """A footprint for all shapes with these sequence lengths. Raises _ShapeDependentError where there is none."""
        shapes = prime_shapes(self.config, self.recipe, lengths)
        if shapes is None:
            raise _ShapeDependentError(f"too few primes in {lengths}")
        try:
            first = self._record(shapes[0], loops=False)
            storages = _symbolic(first)
            self._check(first, storages, shapes[1])
        except PerTokenLoopError as error:
            raise _ShapeDependentError("a layer loops over tokens") from error
        found = self._footprints(first, storages, None)

        def held(footprint: Footprint) -> Footprint:
            return replace(footprint, shortest=lengths.shortest, longest=lengths.longest)

        return Traced(held(found.footprint), None if found.single is None else held(found.single))

    def for_shape(self, shape: Shape) -> Traced:
        """A footprint for one shape."""
        recording = self._record(shape)
        storages = [
            TracedStorage(term("1", s.size_bytes), s.component or "temporaries") for s in recording.storages
        ]
        return self._footprints(recording, storages, shape)

    def _check(self, first: _Recording, storages: Sequence[TracedStorage], shape: Shape) -> None:
        """Raise _ShapeDependentError unless another shape shows the same graph with the sizes that are expected.

        A first step with one micro batch shows all that depends on the shape; where it is no part of the recording
        by itself, all of it is recorded again.
        """
        part = brief(first.segments)
        if part is not None and _agrees(part, storages, self._record(shape, loops=False, whole=False)):
            return
        _verify(storages, first, self._record(shape, loops=False))

    def _footprints(
        self, recording: _Recording, storages: Sequence[TracedStorage], shape: Shape | None
    ) -> Traced:
        part = single(recording.segments) if self.recipe.accumulation > 1 else None
        alone = None
        if part is not None:
            excerpt = replace(
                recording,
                segments=part.segments,
                storages=[recording.storages[n] for n in part.kept],
                products=tuple(part.kept.index(n) for n in recording.products),
            )
            alone = _footprint(excerpt, [storages[n] for n in part.kept], shape)
        return Traced(_footprint(recording, storages, shape), alone)

    def _record(self, shape: Shape, *, loops: bool = True, whole: bool = True) -> _Recording:
        """The recipe's steps and an evaluation; not `whole`: a first step alone, with one micro batch."""
        while True:
            try:
                return self._run(shape, self.stand_ins[0], loops, whole)
            except (LplanError, NotPeriodicError, PerTokenLoopError):
                raise
            except Exception as error:
                if len(self.stand_ins) == 1 and not self.depth.whole:
                    raise NotPeriodicError(first_line(error)) from error
                if len(self.stand_ins) == 1:
                    raise LplanError(
                        f"{type(self.config).__name__} cannot be traced: {first_line(error)}",
                        hint="try another --precision, --attention or --target-modules",
                    ) from error
                self.stand_ins = self.stand_ins[1:]

    def _run(self, shape: Shape, stand_in: StandIn, loops: bool, whole: bool) -> _Recording:
        with on_device("meta"):
            model = self._model()
        tracker = StorageTracker(
            mask_is_full=self.recipe.padding == "none",
            experts=experts_of(self.config),
            scratch=scratch if self.recipe.device == "cuda" else None,
        )
        tracker.longest_segment = None if loops else _EVENTS_A_TOKEN * shape.seq
        with prepare_device(model, self.recipe, stand_in), kept_apart(model, self.recipe.padding):
            recipe = self.recipe if whole else replace(self.recipe, accumulation=1)
            step = TracedStep(model, recipe, shape, tracker, STEPS if whole else STEPS[:1])
            step.run()
        name_components(tracker)
        untouched, attention = step.logits_untouched, self.recipe.attention
        return _Recording(
            segments=tracker.segments,
            storages=tracker.storages,
            products=tuple(tracker.products.values()),
            model=model,
            depth=self.depth,
            shape=shape,
            chunkable=untouched,
            asked=attention,
            kept=step.gathered,
        )

    def _model(self) -> nn.Module:
        """The wrapped model of the layers to trace. Raises NotPeriodicError where it is another with fewer layers."""
        if self.depth.whole:
            return wrap(build(self.config, self.recipe), self.recipe)
        try:
            model = build(make_config(_cut(self.config, self.depth)), self.recipe)
            if self.recipe.names_layers:
                model = wrap(model, self.recipe)
        except LplanError as error:
            raise NotPeriodicError(str(error)) from error
        self.stack.require_same(model, decoder_layers(model), self.depth)
        return model if self.recipe.names_layers else wrap(model, self.recipe)


def _cut(config: Any, depth: Depth) -> dict[str, Any]:
    """config.json's content for the layers to trace, in the part that describes the language model."""
    values = {**config.to_dict(), "model_type": config.model_type}
    text = text_config(config)
    if text is config:
        return cut(config, values, depth.traced, depth.rest)
    name = next(name for name, part in vars(config).items() if part is text)
    return {**values, name: cut(text, values[name], depth.traced, depth.rest)}


def _verify(storages: Sequence[TracedStorage], first: _Recording, check: _Recording) -> None:
    if _history(first.segments) != _history(check.segments):
        raise _ShapeDependentError("the graph changes with the shape")
    if wrong := _mispredicted(storages, check):
        raise _ShapeDependentError(f"no polynomial: {wrong.dimensions}")


def _agrees(part: Excerpt, storages: Sequence[TracedStorage], check: _Recording) -> bool:
    if _history(part.segments) != _history(check.segments):
        return False
    return _mispredicted([storages[n] for n in part.kept], check) is None


def _mispredicted(storages: Sequence[TracedStorage], check: _Recording) -> Storage | None:
    values = check.shape.values()
    pairs = zip(storages, check.storages, strict=True)
    return next((found for told, found in pairs if evaluate(told.size, values) != found.size_bytes), None)


def _history(segments: Iterable[Segment]) -> list[tuple[str, str, int, list[int]]]:
    return [(s.phase, s.stage, s.layer, s.settled()) for s in segments]


def _symbolic(recording: _Recording) -> list[TracedStorage]:
    storages = [_traced(storage, recording) for storage in recording.storages]
    for index in _waiting(recording):
        row_bytes = storages[index].size[MONOMIALS.index("K")]
        rest = plus(term("N", row_bytes), term("K", -(CHUNKS - 1) * row_bytes))
        storages[index] = replace(storages[index], size=rest)
    return storages


def _waiting(recording: _Recording) -> set[int]:
    """The first gradient of every set that waits for the last chunk of a chunked loss.

    Together they have the rows of all supervised tokens, however many chunks those make: the first stands
    for all chunks but the last two.
    """
    head = head_of(recording.model)
    if head is None:
        return set()
    width = as_built(head).weight.shape[-1]
    found: set[int] = set()
    alive: dict[int, None] = {}
    for segment in recording.segments:
        for event in segment.events:
            index = abs(event) - 1
            if recording.storages[index].dimensions != (recording.shape.chunk, width):
                continue
            if event < 0:
                alive.pop(index, None)
            else:
                alive[index] = None
                if len(alive) == CHUNKS:
                    found.add(next(iter(alive)))
    return found


def _traced(storage: Storage, recording: _Recording) -> TracedStorage:
    size = symbolize(storage.size_bytes, storage.dimensions, storage.itemsize, recording.shape)
    if size is None:
        raise _ShapeDependentError(f"no monomial: {storage.dimensions}")
    return TracedStorage(size, storage.component or "temporaries")


def _footprint(recording: _Recording, storages: Sequence[TracedStorage], shape: Shape | None) -> Footprint:
    depth, model = recording.depth, recording.model
    stream = Stream(storages, blocks(recording.segments, depth), recording.products)
    if not depth.whole:
        _require_one_pass(recording)
        check_extends(stream)
    found = peaks(stream, extends=not depth.whole)
    phases = {name: found[name] for name in ("first step", "steady step", "evaluation")}
    if read := {id(weight): (name, weight.nbytes) for name, weight in read_on_wrapping(model)}:
        phases["wrap"] = (Instant({"weights": _count(read.values(), depth)}),)
    base, adapted = _unwrapped(model), list(adapted_weights(model))
    embeddings, head = (as_built(module) for module in (base.get_input_embeddings(), head_of(base)))
    return Footprint(
        architecture=type(base).__name__,
        layers=depth.layers,
        period=depth.period,
        traced_layers=depth.traced,
        target_modules=adapted_names(model),
        phases=phases,
        work=total_work(recording.segments, depth, recording.shape if shape is None else None),
        parameters=_count((size for size in parameter_sizes(model) if not is_added(size[0])), depth),
        trainable_parameters=_count(
            ((n, p.numel()) for n, p in model.named_parameters() if p.requires_grad), depth
        ),
        embedding_bytes=embeddings.weight.nbytes,
        shared_head=head is not None and embeddings.weight is head.weight,
        chunkable=recording.chunkable,
        shape=shape,
        stream=stream,
        attention=_instead(base.config, recording.asked),
        adapted=_count(adapted, depth) if adapted else None,
        largest_adapted=max((elements for _, elements in adapted), default=0),
        gathered=gathered(recording.kept, recording.shape if shape is None else None),
    )


def _instead(config: Any, asked: str) -> str | None:
    """What a model computes attention with where it has no SDPA."""
    return "eager" if asked == "sdpa" and getattr(config, "_attn_implementation", None) == "eager" else None


def _require_one_pass(recording: _Recording) -> None:
    """Raise NotPeriodicError where layers run twice or in another order, or where outputs of their own are kept."""
    ran = [
        segment.layer
        for segment in recording.segments
        if (segment.phase, segment.stage) == ("evaluation", "forward") and segment.layer >= 0
    ]
    if ran != list(range(recording.depth.traced)):
        raise NotPeriodicError(f"layers run in the order {ran}")
    if len(recording.kept) > LOGITS_AND_LABELS:
        raise NotPeriodicError("an evaluation keeps outputs of single layers")


def _unwrapped(model: nn.Module) -> Any:
    """The transformers model inside PEFT's, or the model itself."""
    inner = getattr(model, "get_base_model", None)
    return model if inner is None else inner()


def _count(sizes: Iterable[tuple[str, int]], depth: Depth) -> Linear:
    total = repeated = 0
    for name, size in sizes:
        total += size
        repeated += size if depth.unit(layer_of(name)) == REPEATED else 0
    return Linear(term("1", total), term("1", repeated))
