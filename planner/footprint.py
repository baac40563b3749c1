"""What a trace found: the peaks of every phase as exact functions of batch, sequence length and depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .polynomial import ZERO, Coefficients, Shape, evaluate
from .stream import Stream


@dataclass(frozen=True, slots=True)
class Linear:
    """A polynomial that grows by `per_unit` with every repeated unit after the first."""

    base: Coefficients
    per_unit: Coefficients = ZERO

    def at(self, values: Sequence[int], extra_units: int) -> int:
        """Its value in bytes (or FLOP, or elements)."""
        total = evaluate(self.base, values)
        return total + extra_units * evaluate(self.per_unit, values) if extra_units else total

    def whole(self, extra_units: int) -> Coefficients:
        """The polynomial at this depth."""
        return tuple(b + extra_units * u for b, u in zip(self.base, self.per_unit, strict=True))


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment that can be a phase's peak: what is alive, by component."""

    components: Mapping[str, Linear]

    def at(self, values: Sequence[int], extra_units: int) -> dict[str, int]:
        """Live bytes by component."""
        return {name: part.at(values, extra_units) for name, part in self.components.items()}


@dataclass(frozen=True, slots=True)
class Gathered:
    """A tensor that an evaluation keeps of every batch: its bytes, and whether it is bf16, which NumPy lacks."""

    size: Coefficients
    widened: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """The memory and the work of one graph, and the shapes for which it is that graph (`holds`).

    For a single sequence it may be too high by a few bytes a token: copies that become views.
    """

    architecture: str
    layers: int
    period: int
    traced_layers: int
    target_modules: tuple[str, ...]
    phases: Mapping[str, tuple[Instant, ...]]
    """The traced ones; and wrap, where base weights are read while adapters are added, with those weights."""
    work: Mapping[str, Linear]
    """FLOP, bytes or elements of one micro batch ("micro ...") and of one optimizer step ("optimizer ...")."""
    parameters: Linear
    trainable_parameters: Linear
    embedding_bytes: int
    """Input embeddings."""
    shared_head: bool
    """Whether the output head is the input embeddings."""
    chunkable: bool
    """Whether the logits are the head's own output, the condition of the chunked loss."""
    shape: Shape | None = None
    """The one shape that was traced, where sizes are no polynomials of it."""
    shortest: int = 1
    longest: int | None = None
    """Sequence lengths on the same side of every attention window; None: no end."""
    stream: Stream | None = None
    """Every birth and death in order."""
    attention: str | None = None
    """transformers' implementation, where the model takes another than was asked for."""
    adapted: Linear | None = None
    """Elements of the base's weights that the adapters can be merged into."""
    largest_adapted: int = 0
    """Elements of the largest of these weights."""
    gathered: tuple[Gathered, ...] = ()
    """What evaluations keep, where they keep anything."""

    def holds(self, shape: Shape) -> bool:
        """Whether the graph of this shape is the one that was traced."""
        if self.shape is not None:
            return self.shape == shape
        return self.shortest <= shape.seq and (self.longest is None or shape.seq <= self.longest)

    @property
    def extra_units(self) -> int:
        """Repeated units beyond the traced one."""
        return (self.layers - self.traced_layers) // self.period

    def peak(self, phase: str, shape: Shape) -> dict[str, int]:
        """Live bytes by component at the phase's peak."""
        values = shape.values()
        return max(
            (i.at(values, self.extra_units) for i in self.phases[phase]),
            key=lambda parts: sum(parts.values()),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "architecture": self.architecture,
            "layers": self.layers,
            "period": self.period,
            "traced_layers": self.traced_layers,
            "target_modules": list(self.target_modules),
            "phases": {
                name: [_pack(i.components) for i in instants] for name, instants in self.phases.items()
            },
            "work": _pack(self.work),
            "parameters": _pack({"all": self.parameters, "trainable": self.trainable_parameters}),
            "embedding_bytes": self.embedding_bytes,
            "shared_head": self.shared_head,
            "chunkable": self.chunkable,
            "shape": None if self.shape is None else asdict(self.shape),
            "lengths": [self.shortest, self.longest],
            "stream": None if self.stream is None else self.stream.to_dict(),
            **({} if self.attention is None else {"attention": self.attention}),
            **({} if self.adapted is None else self._merging()),
            **({"gathered": [[list(g.size), g.widened] for g in self.gathered]} if self.gathered else {}),
        }

    def _merging(self) -> dict[str, Any]:
        assert self.adapted is not None
        return {"adapted": _pack({"all": self.adapted})["all"], "largest_adapted": self.largest_adapted}


def footprint_from_dict(data: Mapping[str, Any]) -> Footprint:
    """The inverse of `Footprint.to_dict`."""
    shape = data["shape"]
    shortest, longest = data["lengths"]
    parameters = _unpack(data["parameters"])
    return Footprint(
        architecture=data["architecture"],
        layers=data["layers"],
        period=data["period"],
        traced_layers=data["traced_layers"],
        target_modules=tuple(data["target_modules"]),
        phases={name: tuple(Instant(_unpack(i)) for i in packed) for name, packed in data["phases"].items()},
        work=_unpack(data["work"]),
        parameters=parameters["all"],
        trainable_parameters=parameters["trainable"],
        embedding_bytes=data["embedding_bytes"],
        shared_head=data["shared_head"],
        chunkable=data["chunkable"],
        shape=None if shape is None else Shape(**shape),
        shortest=shortest,
        longest=longest,
        stream=None if data["stream"] is None else Stream.from_dict(data["stream"]),
        attention=data.get("attention"),
        adapted=_unpack({"all": data["adapted"]})["all"] if "adapted" in data else None,
        largest_adapted=data.get("largest_adapted", 0),
        gathered=tuple(Gathered(tuple(size), widened) for size, widened in data.get("gathered", ())),
    )


def _pack(parts: Mapping[str, Linear]) -> dict[str, list[list[int]]]:
    return {name: [list(part.base), list(part.per_unit)] for name, part in parts.items()}


def _unpack(parts: Mapping[str, Any]) -> dict[str, Linear]:
    return {name: Linear(tuple(base), tuple(per_unit)) for name, (base, per_unit) in parts.items()}
