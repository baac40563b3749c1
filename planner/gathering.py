"""What an evaluation keeps until its end: tensors on the device, then arrays in host memory.

transformers' Trainer (5.23: `evaluation_loop`, trainer_pt_utils.py's `EvalLoopContainer`) adds every batch to what it
has by concatenation, padded to the longest, so that at each batch old, new and both together exist. After
`eval_accumulation_steps` batches, or at the end, it becomes NumPy arrays, bf16 as fp32, and those are joined likewise.
The loop's own variables hold the last batch until the next is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .footprint import Footprint
from .polynomial import Shape, evaluate
from .recipe import Recipe


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor that is kept of every batch; `array_bytes`: as NumPy has it."""

    tensor_bytes: int
    array_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathering:
    """An evaluation of `batches` batches that are moved to host memory after every `group` of them."""

    parts: tuple[Part, ...]
    batches: int
    group: int

    @property
    def on_device(self) -> int:
        """The most batches that are on the device at once."""
        return min(self.group, self.batches)

    def beside_forward(self) -> int:
        """Bytes that are kept during the last forward pass before a move, of earlier batches of its group."""
        return _during_forward(self.parts, self.on_device)

    def joining(self) -> int:
        """The most bytes at once while the last batch of a group is added to the others."""
        return _joining(self.parts, self.on_device)

    def as_arrays(self, *, shared: bool) -> int:
        """The most bytes in host memory; `shared`: the device is the host, whose arrays are the tensors where their
        dtype allows, and all of this is in it, forward passes left out."""
        most = 0
        for before, size in self._groups():
            arrays = sum(before * part.array_bytes for part in self.parts)
            most = max(most, _moving(self.parts, before, size, shared=shared))
            if shared:
                most = max(most, arrays + _joining(self.parts, size))
        return most

    def during_forward(self) -> int:
        """The most bytes that are kept during a forward pass where device and host are one."""
        return max(
            before * sum(part.array_bytes for part in self.parts) + _during_forward(self.parts, size)
            for before, size in self._groups()
        )

    def _groups(self) -> Iterator[tuple[int, int]]:
        """Batches that are arrays already, and batches that become arrays, for those moves that can hold most."""
        whole, rest = divmod(self.batches, self.group)
        if whole:
            yield (whole - 1) * self.group, self.group
        if rest:
            yield whole * self.group, rest


def gathering(recipe: Recipe, footprint: Footprint, shape: Shape) -> Gathering | None:
    """What the recipe's evaluation keeps; None where it keeps nothing."""
    if recipe.eval_logits == "none":
        return None
    values = shape.values()
    sizes = [(evaluate(one.size, values), one.widened) for one in footprint.gathered]
    batches = -(-recipe.eval_samples // recipe.batch_size)
    return Gathering(
        parts=tuple(Part(size, 2 * size if widened else size) for size, widened in sizes),
        batches=batches,
        group=recipe.eval_accumulation_steps or batches,
    )


def _during_forward(parts: Sequence[Part], size: int) -> int:
    """Of a group of `size` batches, before its last: what was joined, and the last batch by itself."""
    joined = size - 1
    return sum((joined + (joined > 1)) * part.tensor_bytes for part in parts)


def _joining(parts: Sequence[Part], size: int) -> int:
    if size == 1:
        return sum(part.tensor_bytes for part in parts)
    usual = sum(size * part.tensor_bytes for part in parts)
    done, most = 0, 0
    for part in parts:
        done += part.tensor_bytes
        most = max(most, usual + size * part.tensor_bytes + done - part.tensor_bytes)
    return most


def _moving(parts: Sequence[Part], before: int, size: int, *, shared: bool) -> int:
    """Parts one after the other: copied to the host, widened, joined to those that are there."""
    most, moved = 0, 0
    for index, part in enumerate(parts):
        later = sum(before * other.array_bytes for other in parts[index + 1 :])
        tensors = _still_tensors(parts, index, size) if shared else size * part.tensor_bytes
        widened = part.array_bytes != part.tensor_bytes
        arrays = size * part.array_bytes if widened else 0
        converting = before * part.array_bytes + tensors + arrays
        joined = (before + size) * part.array_bytes if before else 0
        if widened and not shared:
            tensors = 0
        joining = before * part.array_bytes + tensors + arrays + joined
        most = max(most, moved + later + max(converting, joining))
        moved += (before + size) * part.array_bytes
    return most


def _still_tensors(parts: Sequence[Part], index: int, size: int) -> int:
    """What is not moved yet, and all of the last batch by itself."""
    alone = sum(part.tensor_bytes for part in parts) if size > 1 else 0
    return alone + sum(size * part.tensor_bytes for part in parts[index:])
