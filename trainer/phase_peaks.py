"""What each phase reached, from three sources of different exactness.

1. The worker's own report when it leaves a phase: VmHWM, the kernel's mark of its highest RSS, which it
   reset on entering. Exact for the worker, to the kernel's counting (below 1 MiB).
2. VmHWM as read with every sample: the same, up to the last sample before a sudden end.
3. Samples of the whole tree: a lower bound that also counts what the worker started.

A phase's peak is the highest of them. The kernel keeps no mark of the file-backed part; it is taken from the
highest sample of the phase, and the rest of the peak is anonymous. Mapped weights change slowly, so this is
off by at most what was mapped and read between that sample and the peak.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..planner.events import PhasePeak
from .monitor import Reading
from .process_tree import reset_high_water

# Readings younger than a worker's message about its phase: it travels for milliseconds, or longer when all
# cores are busy.
_DELAY_S = 2.0


@dataclass(slots=True)
class PhasePeaks:
    """Follows the run's phases; times are those of the events, not of their arrival.

    `marks_are_reset`: whether a process may reset its high-water mark here, so that the mark seen in a phase
    is the phase's own.
    """

    marks_are_reset: bool = field(default_factory=reset_high_water)
    phase: str | None = None
    _highest: Reading | None = None
    _recent: list[Reading] = field(default_factory=list)
    _device_bytes: int | None = None
    """Of a GPU, the highest of the samples before the recent ones: what is left of a worker that could not report."""

    def add(self, reading: Reading) -> None:
        """Take a reading of the present phase."""
        self._recent.append(reading)
        horizon_s = reading.sample.t_s - _DELAY_S
        while self._recent[0].sample.t_s < horizon_s:
            self._take(self._recent.pop(0))

    def begin(self, name: str, t_s: float) -> None:
        """A phase begins at `t_s`; the one before must have been ended."""
        self.phase = name
        # Readings between the two messages may still show the old phase's mark.
        self._recent = [reading for reading in self._recent if reading.sample.t_s > t_s]

    def end(self, t_s: float, told: PhasePeak | None = None) -> PhasePeak | None:
        """The present phase ends at `t_s`, with the worker's own report if any; its peak, if known."""
        for reading in self._recent:
            if reading.sample.t_s <= t_s:
                self._take(reading)
        self._recent = [reading for reading in self._recent if reading.sample.t_s > t_s]
        highest, device_bytes = self._highest, self._device_bytes
        self._highest = self._device_bytes = None
        name, self.phase = self.phase, None
        if name is None or (highest is None and told is None):
            return None
        if told is not None and told.device_bytes is not None:
            device_bytes = told.device_bytes
        return self._peak(name, t_s, highest, told, device_bytes)

    def _take(self, reading: Reading) -> None:
        self._highest = self._higher(self._highest, reading)
        found_bytes = reading.sample.device_bytes
        if found_bytes is not None:
            self._device_bytes = max(self._device_bytes or 0, found_bytes)

    def _peak(
        self,
        name: str,
        t_s: float,
        highest: Reading | None,
        told: PhasePeak | None,
        device_bytes: int | None,
    ) -> PhasePeak:
        rss_bytes = max(self._mark(highest), told.rss_bytes if told else 0)
        source = highest.sample if highest else told
        file_bytes = source.file_bytes if source else 0
        return PhasePeak(
            t_s=t_s,
            name=name,
            rss_bytes=rss_bytes,
            anonymous_bytes=rss_bytes - file_bytes,
            file_bytes=file_bytes,
            device_bytes=device_bytes,
        )

    def _mark(self, reading: Reading | None) -> int:
        if reading is None:
            return 0
        mark_bytes = reading.high_water_bytes if self.marks_are_reset else None
        return max(reading.sample.rss_bytes, mark_bytes or 0)

    def _higher(self, one: Reading | None, other: Reading) -> Reading:
        return other if one is None or self._mark(other) > self._mark(one) else one
