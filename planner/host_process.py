"""The host's side of a run on a GPU: libraries, CUDA's own memory, what loading reads and converts, what saving copies.

A weight on its way to the device is a page of its file, and in another dtype first a converted copy of itself: copies
between devices change no dtype on the way (aten/src/ATen/native/cuda/Copy.cu). Data comes from host.toml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..profiles.model import ModelProfile
from .constants import constants
from .estimate import HostBytes, PhaseEstimate
from .footprint import Footprint
from .gathering import gathering
from .host import NOTHING, host_peaks, with_arrays
from .merging import item_bytes
from .polynomial import Shape
from .recipe import Recipe
from .runtime import Baseline, growth
from .workers import loader_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSide:
    """One run on a GPU, seen from the host that has so many `libraries` loaded."""

    recipe: Recipe
    footprint: Footprint
    shape: Shape
    model: ModelProfile
    libraries: Baseline

    def beside(self, phases: Sequence[PhaseEstimate]) -> tuple[PhaseEstimate, ...]:
        """The phases of the device, each with what the host holds meanwhile."""
        tensors = host_peaks(self.footprint, self.shape) if self.recipe.offload else {}
        tensors = with_arrays(tensors, gathering(self.recipe, self.footprint, self.shape))
        return tuple(
            replace(phase, host=self._phase(phase.name, _of(tensors, phase.name))) for phase in phases
        )

    def _phase(self, name: str, tensors: HostBytes) -> HostBytes:
        libraries = self.libraries.anonymous_bytes + self.libraries.file_bytes
        if name == "import":
            return replace(tensors, process_bytes=libraries, process_high_bytes=libraries)
        driver = constants("host")["driver"]
        objects = growth(name, _ANY, self.footprint.layers, self.libraries)
        own = libraries + objects.anonymous_bytes + objects.file_bytes + self._copies(name)
        own += loader_bytes(self.recipe, name, rewritten_bytes=0)
        return replace(
            tensors,
            process_bytes=own + driver["lazy_bytes"],
            process_high_bytes=own + driver["whole_bytes"],
            file_bytes=self._read_bytes() if name == "load" else 0,
        )

    def _copies(self, name: str) -> int:
        """What a phase copies to the host, or on it."""
        if name == "save":
            kept = self.footprint.peak("evaluation", self.shape)
            return kept.get("adapters" if self.recipe.adapts else "weights", 0)
        if name != "load" or not self._reads_files() or self.model.weights.dtype == self.recipe.weights_dtype:
            return 0
        others: int = constants("host")["loading"]["threads"] - 1
        return self.footprint.embedding_bytes + others * self.footprint.largest_adapted * item_bytes(
            self.recipe
        )

    def _read_bytes(self) -> int:
        """Pages of the files, which the kernel can drop once their weights are on the device."""
        return self.model.weights.total_bytes if self._reads_files() else 0

    def _reads_files(self) -> bool:
        return self.recipe.init == "pretrained"


_ANY = Recipe()
"""Objects and caches of the libraries grow as on a CPU, with layers."""


def _of(tensors: Mapping[str, HostBytes], phase: str) -> HostBytes:
    """Saving comes after the evaluation, with what is on the host by then."""
    return tensors.get(phase) or tensors.get("evaluation" if phase == "save" else phase) or NOTHING
