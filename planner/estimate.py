"""The answer: phases by components, in bytes, with a range."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..profiles.hardware import Budget, Hardware
from ..profiles.model import ModelProfile
from .recipe import Recipe
from .texts import Texts

STEPS = ("first step", "steady step")
PHASES = ("import", "load", "wrap", *STEPS, "evaluation", "save")
REHEARSAL = "rehearsal"
"""A phase of runs, not of plans: after wrapping, what REHEARSED will need is needed once, and undone."""
TOKENIZING = "tokenizing"
"""Before a run: its data is read and tokenized, by lplan in the launching process."""
RESUME = "resume"
"""A phase of runs that are continued: before their first step the checkpoint is loaded."""
REHEARSED = ("first step", "steady step", "evaluation", "save")

COMPONENTS = (
    "weights",
    "adapters",
    "gradients",
    "optimizer",
    "activations",
    "logits and loss",
    "temporaries",
    "runtime",
    "allocator slack",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ByteRange:
    """low <= expected <= high, in bytes."""

    low_bytes: int
    expected_bytes: int
    high_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CudaBytes:
    """A phase's peaks on a GPU: tensors as PyTorch allocates them, what its allocator reserved, the whole process."""

    allocated_bytes: int
    reserved_bytes: int
    process_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HostBytes:
    """What a GPU run keeps in host memory up to the end of a phase (planner.host_process)."""

    pinned_bytes: int
    """Tensors in pinned memory, as PyTorch takes it: in powers of two, and kept until the process ends."""
    pageable_bytes: int
    """Other tensors."""
    process_bytes: int = 0
    """Libraries, CUDA's own, objects, and what loading or saving copies; expected."""
    process_high_bytes: int = 0
    """The same where CUDA loads its modules whole."""
    file_bytes: int = 0
    """Pages of weight files that are being read; the kernel can drop them."""

    @property
    def required_bytes(self) -> int:
        """At most, without pages that can be dropped."""
        return self.pinned_bytes + self.pageable_bytes + self.process_high_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseEstimate:
    """One phase's peak. `components` are the parts at that instant and add up to `peak.expected_bytes`.

    `anonymous_bytes` + `file_bytes` is the resident set at the peak; `reclaimable_bytes` of the file part
    are pages that the kernel can drop without anyone reading them again. All three are zero on a GPU.
    """

    name: str
    peak: ByteRange
    components: Mapping[str, int]
    anonymous_bytes: int = 0
    file_bytes: int = 0
    reclaimable_bytes: int = 0
    cuda: CudaBytes | None = None
    host: HostBytes | None = None
    """None on a CPU, whose memory the host's is."""

    @property
    def required_bytes(self) -> int:
        """What a limit must leave for this phase: the high estimate without reclaimable pages."""
        return self.peak.high_bytes - self.reclaimable_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a recipe costs on a machine, phase by phase."""

    model: ModelProfile
    architecture: str
    parameters: int
    trainable_parameters: int
    recipe: Recipe
    hardware: Hardware
    budget: Budget
    phases: tuple[PhaseEstimate, ...]
    assumptions: tuple[str, ...]
    not_modelled: tuple[str, ...]
    versions: Mapping[str, str]
    other_phases: tuple[PhaseEstimate, ...] = ()
    """What is no part of a plain run (planner.other_phases); `peak` and `fits` don't look at it."""
    texts: Texts | None = None
    """What is tokenized, where that is known."""
    offsets: Mapping[str, int] = field(default_factory=dict)
    """Bytes that a calibration on this machine's own runs added to each phase (planner.calibration)."""

    @property
    def peak(self) -> PhaseEstimate:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: phase.required_bytes)

    def holds(self, phase: PhaseEstimate) -> bool:
        """Whether the high estimate of a phase stays within the budget, and on a GPU within the host's memory too."""
        on_host = phase.host.required_bytes if phase.host else 0
        return phase.required_bytes <= self.budget.budget_bytes and on_host <= self.host_room_bytes

    @property
    def host_peak(self) -> PhaseEstimate | None:
        """The phase of a GPU run that needs most of the host's memory."""
        hosted = (phase for phase in self.phases if phase.host is not None)
        return max(hosted, key=_on_host, default=None)

    @property
    def host_room_bytes(self) -> int:
        """Host memory that the machine's own system leaves."""
        return self.hardware.memory_bytes - self.hardware.reserve_bytes

    @property
    def fits(self) -> bool:
        """Whether even the high estimate of every phase stays within the budget."""
        return self.peak.required_bytes <= self.budget.budget_bytes


def _on_host(phase: PhaseEstimate) -> int:
    return phase.host.required_bytes if phase.host else 0


def as_run(estimate: Estimate, seen: Collection[str]) -> tuple[PhaseEstimate, ...]:
    """The phases that are planned for a run of which `seen` was seen: rehearsal and resuming where it has them."""
    phases = with_rehearsal(estimate.phases) if REHEARSAL in seen else estimate.phases
    resuming = [phase for phase in estimate.other_phases if phase.name == RESUME and RESUME in seen]
    place = next((i for i, phase in enumerate(phases) if phase.name in REHEARSED), len(phases))
    return (*phases[:place], *resuming, *phases[place:])


def with_rehearsal(phases: Sequence[PhaseEstimate]) -> tuple[PhaseEstimate, ...]:
    """A plan's phases with the rehearsal in its place: it needs the most of what it goes through."""
    parts = [phase for phase in phases if phase.name in REHEARSED]
    if not parts:
        return tuple(phases)
    rehearsal = replace(max(parts, key=lambda phase: phase.peak.expected_bytes), name=REHEARSAL)
    place = phases.index(parts[0])
    return (*phases[:place], rehearsal, *phases[place:])
