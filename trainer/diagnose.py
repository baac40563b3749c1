"""Why a worker ended: from what was seen to a verdict, a sentence, and what to change. Pure functions."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

from ..planner.events import Outcome, Verdict
from ..planner.post_mortem import explain_log
from ..profiles.errors import EXIT_DOES_NOT_FIT, EXIT_ERROR, EXIT_OK
from ..profiles.units import format_size
from .evidence import Evidence
from .last_words import exception_line, last_line, last_match, shortened, waiting_at
from .launch import NOT_STARTED


@dataclass(frozen=True, slots=True)
class _Finding:
    verdict: Verdict
    explanation: str
    hint: str | None = None
    had_bytes: int | None = None


_Rule = Callable[[Evidence], _Finding | None]


def diagnose(evidence: Evidence) -> Outcome:
    """The run's outcome. Exit status: 0 done; 3 the run did not fit its memory; 1 anything else."""
    finding = next(found for rule in _RULES if (found := rule(evidence)) is not None)
    told = evidence.told if finding.verdict == "failed" else None
    return Outcome(
        t_s=evidence.t_s,
        verdict=finding.verdict,
        explanation=finding.explanation,
        hint=finding.hint,
        exit_code=told.exit_code if told else _EXIT[finding.verdict],
        phase=evidence.phase,
        step=evidence.step,
        had_bytes=finding.had_bytes,
        evidence=None if finding.verdict == "done" else evidence.summary() or None,
        repeats=told.repeats if told else None,
    )


_EXIT: dict[Verdict, int] = {
    "done": EXIT_OK,
    "out-of-memory": EXIT_DOES_NOT_FIT,
    "interrupted": EXIT_ERROR,
    "hang": EXIT_ERROR,
    "failed": EXIT_ERROR,
}

_STEP_HINT = "lower --batch-size or --seq-len, set --checkpointing full, or raise --ram"
_MEMORY_HINTS = {
    "import": "the libraries alone need more: raise --ram",
    "load": "raise --ram, or load fewer bytes: --precision bf16, or a smaller --model",
    "wrap": "raise --ram, or lower --rank",
    "evaluation": "lower --batch-size or --seq-len, or raise --ram",
    "save": "raise --ram, or lower --rank",
}

_REFUSED_MEMORY = re.compile(
    r"\b\w*MemoryError\b|DefaultCPUAllocator: |std::bad_alloc|Cannot allocate memory|\bOutOfMemoryError\b"
)
_CUDA_MEMORY = re.compile(r"CUDA out of memory\. Tried to allocate")
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|\[Errno (28|122)\]")

_SIGNALS = {
    signal.SIGSEGV: "a library crashed (SIGSEGV, it touched memory that is not its own)",
    signal.SIGABRT: "a library gave up (SIGABRT)",
    signal.SIGILL: "a library used an instruction that this processor lacks (SIGILL)",
    signal.SIGFPE: "a library crashed (SIGFPE, an integer division by zero)",
    signal.SIGBUS: "a file mapped into memory was cut short, or its disk or /dev/shm is full (SIGBUS)",
    signal.SIGKILL: "it was killed from outside (SIGKILL), and not by the kernel for memory",
    signal.SIGTERM: "it was told to end from outside (SIGTERM)",
}
_PREEMPTED = "a scheduler's preemption, a shutdown, or an administrator"
_SIGNAL_HINTS = {
    signal.SIGILL: "install builds of torch and its companions for this processor",
    signal.SIGBUS: "check the free space of the disk and of /dev/shm, and the weight files",
    signal.SIGKILL: "look for a memory guard such as systemd-oomd or earlyoom, or an administrator's limit",
    signal.SIGTERM: f"{_PREEMPTED} ended it",
}
_ENDED_BY_REQUEST = (
    -signal.SIGTERM,
    -signal.SIGINT,
    -signal.SIGKILL,
    128 + signal.SIGTERM,
    128 + signal.SIGINT,
)


def _over_watched_limit(evidence: Evidence) -> _Finding | None:
    if evidence.stop != "over limit":
        return None
    return _out_of_memory(
        evidence,
        f"ended by lplan {evidence.where}: anonymous memory reached {format_size(evidence.anonymous_bytes)} "
        f"of the {format_size(evidence.limit_bytes)} limit (watched)",
    )


def _left_before_the_limit(evidence: Evidence) -> _Finding | None:
    if evidence.stop != "near limit" or evidence.exit_status not in (0, *_ENDED_BY_REQUEST):
        return None
    saved = "what was learned is saved" if evidence.exit_status == 0 else "without a last save"
    return _out_of_memory(
        evidence, f"stopped by lplan {evidence.where}, before the limit: {evidence.warning}; {saved}"
    )


def _killed_in_group(evidence: Evidence) -> _Finding | None:
    if not evidence.limiter_oom_kills or evidence.exit_status == 0:
        return None
    lowered_bytes = evidence.limit_now_bytes
    if lowered_bytes is not None and lowered_bytes < 0.98 * evidence.limit_bytes:
        return _out_of_memory(
            evidence,
            f"killed by the kernel {evidence.where}: somebody lowered its limit ({evidence.limiter}) from "
            f"{format_size(evidence.limit_bytes)} to {format_size(lowered_bytes)}",
            had_bytes=lowered_bytes,
        )
    peak_bytes = evidence.limiter_peak_bytes
    # The counter also counts kills for an outer limit's or the machine's sake; those find room below ours.
    # Charges come in batches, so the peak may stay slightly below the limit.
    if peak_bytes is not None and peak_bytes < 0.98 * evidence.limit_bytes:
        return _machine_is_full(evidence, peak_bytes)
    return _out_of_memory(
        evidence,
        f"killed by the kernel {evidence.where}: memory reached the {format_size(evidence.limit_bytes)} "
        f"limit ({evidence.limiter}), {format_size(evidence.anonymous_bytes)} of it anonymous when sampled",
    )


def _killed_for_the_machine(evidence: Evidence) -> _Finding | None:
    """Only where nothing counted the worker's own kills: a control group counts those for the machine's sake too."""
    if evidence.exit_status != -signal.SIGKILL or evidence.stop or not evidence.machine_oom_kills:
        return None
    if evidence.limiter.startswith("cgroup"):
        return None
    return _machine_is_full(evidence, evidence.anonymous_bytes)


def _ended_well(evidence: Evidence) -> _Finding | None:
    if evidence.exit_status != 0:
        return None
    steps, total = evidence.step or 0, evidence.total_steps
    left = evidence.told is not None and evidence.told.verdict == "interrupted"
    if steps >= total or (evidence.stop is None and not left):
        return _Finding("done", f"{steps} of {total} steps")
    if not steps:
        return _Finding("interrupted", "before the first step was done")
    text = f"{steps} of {total} steps are done, and what was learned is saved"
    if evidence.stop is None:
        return _Finding(
            "interrupted", f"told to end from outside (SIGTERM): {text}", f"{_PREEMPTED} ended it"
        )
    return _Finding("interrupted", text)


def _interrupted(evidence: Evidence) -> _Finding | None:
    if evidence.stop not in ("asked", "killed") or evidence.exit_status not in _ENDED_BY_REQUEST:
        return None
    done = f"after step {evidence.step}" if evidence.step else "before the first step was done"
    return _Finding("interrupted", f"{done}, without a last save")


def _hanging(evidence: Evidence) -> _Finding | None:
    if evidence.stop != "hang":
        return None
    frame = waiting_at(evidence.log_tail)
    return _Finding(
        "hang",
        f"{evidence.warning} {evidence.where}" + (f": it waits in {frame}" if frame else ""),
        f"the stacks of its threads are at the end of {evidence.log}",
    )


def _told_by_worker(evidence: Evidence) -> _Finding | None:
    if evidence.told is None:
        return None
    return _Finding(evidence.told.verdict, evidence.told.explanation, evidence.told.hint)


def _never_started(evidence: Evidence) -> _Finding | None:
    if evidence.exit_status is not None and (evidence.exit_status != NOT_STARTED or evidence.phase):
        return None
    reason = last_line(evidence.log_tail) or "it left no message"
    return _Finding("failed", f"the worker could not be started: {reason}", f"the log is {evidence.log}")


def _gpu_memory_refused(evidence: Evidence) -> _Finding | None:
    line = last_match(_CUDA_MEMORY, evidence.log_tail)
    found = explain_log(line) if line is not None else None
    if found is None:
        return None
    held_bytes = found.figures.get("process")
    others = held_bytes is not None and held_bytes + found.figures["tried"] < 0.98 * evidence.limit_bytes
    return _Finding(
        "out-of-memory",
        f"CUDA out of memory {evidence.where}: {found.explanation}",
        found.knobs[0],
        had_bytes=held_bytes if others else evidence.limit_bytes,
    )


def _memory_refused(evidence: Evidence) -> _Finding | None:
    line = last_match(_REFUSED_MEMORY, evidence.log_tail)
    if line is None:
        return None
    by = "RLIMIT_DATA" if evidence.limiter == "rlimit" else "the system"
    return _out_of_memory(
        evidence,
        f"{by} refused an allocation {evidence.where}, at {format_size(evidence.anonymous_bytes)} of the "
        f"{format_size(evidence.limit_bytes)} limit: {shortened(line)}",
    )


def _disk_full(evidence: Evidence) -> _Finding | None:
    line = last_match(_DISK_FULL, evidence.log_tail)
    if line is None:
        return None
    return _Finding(
        "failed",
        f"the disk is full: the worker could not write {evidence.where}: {shortened(line)}",
        f"free space for {evidence.log.parent}, or name another folder by --output",
    )


def _crashed(evidence: Evidence) -> _Finding | None:
    status = evidence.exit_status
    if status is None or status >= 0:
        return None
    reason = _SIGNALS.get(signal.Signals(-status)) or f"it was ended by {signal.Signals(-status).name}"
    hint = _SIGNAL_HINTS.get(signal.Signals(-status), f"the log is {evidence.log}")
    return _Finding("failed", f"the worker ended {evidence.where}: {reason}", hint)


def _raised(evidence: Evidence) -> _Finding:
    reason = exception_line(evidence.log_tail) or f"exit status {evidence.exit_status}"
    return _Finding(
        "failed",
        f"the worker failed {evidence.where}: {shortened(reason)}",
        f"the log is {evidence.log}",
    )


# The first rule that finds something decides. What the kernel and the parent did comes before what the
# worker wrote, for a worker's last words may be about the consequence.
_RULES: tuple[_Rule, ...] = (
    _killed_in_group,
    _over_watched_limit,
    _hanging,
    _left_before_the_limit,
    _ended_well,
    _interrupted,
    _killed_for_the_machine,
    _told_by_worker,
    _never_started,
    _gpu_memory_refused,
    _memory_refused,
    _disk_full,
    _crashed,
    _raised,
)


def _out_of_memory(evidence: Evidence, explanation: str, had_bytes: int | None = None) -> _Finding:
    hint = _MEMORY_HINTS.get(evidence.phase or "", _STEP_HINT)
    return _Finding("out-of-memory", explanation, hint, had_bytes or evidence.limit_bytes)


def _machine_is_full(evidence: Evidence, held_bytes: int) -> _Finding:
    return _Finding(
        "out-of-memory",
        f"killed by the kernel {evidence.where}: the machine, or a container around the run, ran out of "
        f"memory while the run held {format_size(held_bytes)} of its {format_size(evidence.limit_bytes)}",
        "close other programs, or plan for less with --ram",
        held_bytes,
    )
