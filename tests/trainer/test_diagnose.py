import signal
from dataclasses import replace
from pathlib import Path

import pytest

from lplan.planner.events import Outcome
from lplan.trainer.diagnose import Evidence, diagnose, exception_line

GIB = 2**30

DONE = Evidence(
    t_s=60.0,
    exit_status=0,
    stop=None,
    limiter="cgroup-v1",
    limit_bytes=2 * GIB,
    limiter_peak_bytes=GIB,
    limiter_oom_kills=0,
    machine_oom_kills=0,
    anonymous_bytes=GIB,
    phase="steady step",
    step=11,
    total_steps=30,
    told=None,
    log_tail=(),
    log=Path("runs/x/worker.log"),
)
FAILED = replace(DONE, exit_status=1)

# As printed by CPython 3.11, PyTorch 2.13 and glibc.
PLAIN = (
    "Loading weights: 100%",
    "Traceback (most recent call last):",
    '  File "worker.py", line 3, in <module>',
    "    train()",
    "KeyError: 'q_proj'",
    "",
    "During handling of the above exception, another exception occurred:",
    "",
    "Traceback (most recent call last):",
    '  File "worker.py", line 5, in <module>',
    "    raise ValueError(message)",
    "ValueError: target modules {'q_proj'} not found",
    "check the model's layers",
)
TORCH_MEMORY = (
    "Traceback (most recent call last):",
    '  File "worker.py", line 1, in <module>',
    "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)",
)
NUMPY_MEMORY = ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 GiB for an array",)
BAD_ALLOC = (
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "  what():  std::bad_alloc",
)
DISK = ("OSError: [Errno 28] No space left on device: 'runs/x/adapter/adapter_model.safetensors'",)
# faulthandler of CPython 3.11 on SIGQUIT, all threads
STACKS = (
    "Thread 0x00007f1c2a7fc6c0 (most recent call first):",
    '  File "/usr/lib/python3.11/selectors.py", line 468 in select',
    "",
    "Current thread 0x00007f1c4b5a7740 (most recent call first):",
    '  File "/usr/lib/python3.11/threading.py", line 607 in wait',
    '  File "worker.py", line 12 in training_step',
)
# github.com/FoundationVision/GenerateU/issues/10
CUDA_MEMORY = (
    "Traceback (most recent call last):",
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 496.00 MiB. GPU 0 has a total capacty of "
    "14.75 GiB of which 235.06 MiB is free. Process 20398 has 14.52 GiB memory in use. Of the allocated memory "
    "14.06 GiB is allocated by PyTorch, and 330.42 MiB is reserved by PyTorch but unallocated.",
)
QUOTED = (
    "Traceback (most recent call last):",
    "    raise MemoryError  # quoted source",
    "ValueError: nothing",
)


def told(explanation: str) -> Outcome:
    return Outcome(
        t_s=1.0,
        verdict="failed",
        explanation=explanation,
        hint="name another folder",
        exit_code=2,
        phase=None,
        step=None,
    )


CASES = [
    ("done", DONE, "done", 0, "11 of 30 steps"),
    ("asked and saved", replace(DONE, stop="asked"), "interrupted", 1, "is saved"),
    ("asked when all was done", replace(DONE, stop="asked", step=30), "done", 0, "30 of 30"),
    (
        "asked too early",
        replace(DONE, stop="asked", exit_status=-15, step=None),
        "interrupted",
        1,
        "before the",
    ),
    (
        "asked, then killed",
        replace(DONE, stop="killed", exit_status=-9),
        "interrupted",
        1,
        "without a last save",
    ),
    (
        "asked, but the disk was full",
        replace(FAILED, stop="asked", log_tail=DISK),
        "failed",
        1,
        "the disk is full",
    ),
    (
        "own limit",
        replace(DONE, exit_status=-9, limiter_oom_kills=1, machine_oom_kills=1, limiter_peak_bytes=2 * GIB),
        "out-of-memory",
        3,
        "killed by the kernel during the steady step, after step 11: memory reached the 2.00 GiB limit",
    ),
    (
        "own limit, no peak kept",
        replace(DONE, exit_status=-9, limiter_oom_kills=1, limiter_peak_bytes=None),
        "out-of-memory",
        3,
        "reached the 2.00 GiB limit",
    ),
    (
        "own limit killed a helper, the worker fell over it",
        replace(FAILED, limiter_oom_kills=1, limiter_peak_bytes=2 * GIB, log_tail=PLAIN),
        "out-of-memory",
        3,
        "reached the 2.00 GiB limit",
    ),
    (
        "an outer limit",
        replace(DONE, exit_status=-9, limiter_oom_kills=1, limiter_peak_bytes=GIB),
        "out-of-memory",
        3,
        "a container around the run, ran out of memory while the run held 1.00 GiB of its 2.00 GiB",
    ),
    (
        "the machine, without a group",
        replace(DONE, exit_status=-9, limiter="watch", limiter_peak_bytes=None, machine_oom_kills=1),
        "out-of-memory",
        3,
        "the machine, or a container",
    ),
    (
        "kill -9, while another program was killed for memory in its own group",
        replace(DONE, exit_status=-9, limiter="cgroup-v1", limiter_peak_bytes=GIB, machine_oom_kills=2),
        "failed",
        1,
        "killed from outside (SIGKILL), and not by the kernel for memory",
    ),
    (
        "another program was killed for memory meanwhile",
        replace(FAILED, machine_oom_kills=1, log_tail=PLAIN),
        "failed",
        1,
        "target modules",
    ),
    (
        "watched",
        replace(DONE, exit_status=-9, limiter="watch", stop="over limit", anonymous_bytes=2 * GIB + 10**7),
        "out-of-memory",
        3,
        "the steady step, after step 11: anonymous memory reached 2.01 GiB of the 2.00 GiB limit",
    ),
    (
        "RLIMIT_DATA",
        replace(FAILED, limiter="rlimit", log_tail=TORCH_MEMORY),
        "out-of-memory",
        3,
        "RLIMIT_DATA refused an allocation during the steady step",
    ),
    ("MemoryError", replace(FAILED, log_tail=("MemoryError",)), "out-of-memory", 3, "the system refused"),
    ("numpy", replace(FAILED, log_tail=NUMPY_MEMORY), "out-of-memory", 3, "8.00 GiB for an array"),
    ("bad_alloc", replace(FAILED, exit_status=-6, log_tail=BAD_ALLOC), "out-of-memory", 3, "std::bad_alloc"),
    ("quoted source", replace(FAILED, log_tail=QUOTED), "failed", 1, "ValueError: nothing"),
    ("disk", replace(FAILED, phase="save", log_tail=DISK), "failed", 1, "the disk is full"),
    ("plain exception", replace(FAILED, log_tail=PLAIN), "failed", 1, "ValueError: target modules"),
    ("silent failure", FAILED, "failed", 1, "exit status 1"),
    (
        "told by the worker",
        replace(FAILED, told=told("no such layer"), log_tail=PLAIN),
        "failed",
        2,
        "no such layer",
    ),
    (
        "killed for memory after telling",
        replace(FAILED, told=told("x"), exit_status=-9, limiter_oom_kills=1, limiter_peak_bytes=2 * GIB),
        "out-of-memory",
        3,
        "killed by the kernel",
    ),
    (
        "its limit was lowered",
        replace(
            DONE,
            exit_status=-9,
            limiter_oom_kills=1,
            limiter_peak_bytes=GIB,
            limit_now_bytes=GIB // 2,
            step=4,
        ),
        "out-of-memory",
        3,
        "after step 4: somebody lowered its limit (cgroup-v1) from 2.00 GiB to 0.50 GiB",
    ),
    (
        "left before its limit",
        replace(DONE, stop="near limit", warning="memory grows from step to step"),
        "out-of-memory",
        3,
        "before the limit: memory grows from step to step; what was learned is saved",
    ),
    (
        "told to end from outside, and saved",
        replace(DONE, told=replace(told("told to end"), verdict="interrupted")),
        "interrupted",
        1,
        "told to end from outside (SIGTERM): 11 of 30 steps are done, and what was learned is saved",
    ),
    (
        "hang",
        replace(DONE, exit_status=-9, stop="hang", warning="no sign of life for 900 s", log_tail=STACKS),
        "hang",
        1,
        "no sign of life for 900 s during the steady step, after step 11: it waits in wait (threading.py:607)",
    ),
    (
        "hang without stacks",
        replace(DONE, exit_status=-9, stop="hang", warning="no sign of life for 900 s"),
        "hang",
        1,
        "no sign of life for 900 s during the steady step, after step 11",
    ),
    (
        "CUDA",
        replace(FAILED, limiter="device", limit_bytes=14 * GIB, log_tail=CUDA_MEMORY),
        "out-of-memory",
        3,
        "CUDA out of memory during the steady step, after step 11: an allocation of 0.48 GiB found no room",
    ),
    ("SIGSEGV", replace(FAILED, exit_status=-11), "failed", 1, "SIGSEGV"),
    ("SIGILL", replace(FAILED, exit_status=-4), "failed", 1, "instruction"),
    ("SIGABRT", replace(FAILED, exit_status=-6), "failed", 1, "SIGABRT"),
    ("SIGBUS", replace(FAILED, exit_status=-7), "failed", 1, "SIGBUS"),
    ("SIGKILL from outside", replace(FAILED, exit_status=-9), "failed", 1, "from outside"),
    ("SIGTERM from outside", replace(FAILED, exit_status=-15), "failed", 1, "from outside"),
    ("a rare signal", replace(FAILED, exit_status=-signal.SIGXCPU), "failed", 1, "SIGXCPU"),
    (
        "not started",
        replace(FAILED, exit_status=127, phase=None, step=None, log_tail=("cannot start x: No such file",)),
        "failed",
        1,
        "could not be started: cannot start x",
    ),
    (
        "not even launched",
        replace(FAILED, exit_status=None, phase=None, step=None, log_tail=("[Errno 11] Try again",)),
        "failed",
        1,
        "[Errno 11]",
    ),
]


@pytest.mark.parametrize(
    ("evidence", "verdict", "exit_code", "says"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_every_end_has_its_verdict(evidence: Evidence, verdict: str, exit_code: int, says: str) -> None:
    outcome = diagnose(evidence)
    assert (outcome.verdict, outcome.exit_code) == (verdict, exit_code)
    assert says in outcome.explanation
    assert "\n" not in outcome.explanation
    assert outcome.hint is not None or verdict in ("done", "interrupted")
    assert (outcome.t_s, outcome.phase, outcome.step) == (60.0, evidence.phase, evidence.step)


@pytest.mark.parametrize(
    ("phase", "knob"),
    [
        ("import", "--ram"),
        ("load", "--precision"),
        ("wrap", "--rank"),
        ("first step", "--batch-size"),
        ("steady step", "--checkpointing"),
        ("evaluation", "--seq-len"),
        ("save", "--ram"),
        (None, "--ram"),
    ],
)
def test_the_hint_for_memory_names_a_knob_of_the_phase(phase: str | None, knob: str) -> None:
    killed = replace(DONE, exit_status=-9, limiter_oom_kills=1, limiter_peak_bytes=None, phase=phase)
    assert knob in (diagnose(killed).hint or "")


@pytest.mark.parametrize(
    ("phase", "step", "where"),
    [
        (None, None, "before its first phase"),
        ("load", None, "during the load phase"),
        ("first step", None, "during the first step"),
        ("save", 30, "during the save phase, after step 30"),
    ],
)
def test_where_it_happened(phase: str | None, step: int | None, where: str) -> None:
    assert replace(DONE, phase=phase, step=step).where == where


@pytest.mark.parametrize(
    ("ended", "had_gib"),
    [
        (replace(DONE, exit_status=-9, limiter_oom_kills=1, limiter_peak_bytes=2 * GIB), 2),
        (replace(DONE, exit_status=-9, limiter_oom_kills=1, limiter_peak_bytes=GIB), 1),
        (replace(DONE, exit_status=-9, limiter_oom_kills=1, limit_now_bytes=GIB), 1),
        (replace(FAILED, log_tail=("MemoryError",)), 2),
        (FAILED, None),
    ],
)
def test_what_there_was_for_a_run_that_died_for_memory(ended: Evidence, had_gib: int | None) -> None:
    assert diagnose(ended).had_bytes == (None if had_gib is None else had_gib * GIB)


def test_the_evidence_is_what_was_counted() -> None:
    outcome = diagnose(
        replace(DONE, exit_status=-9, limiter_oom_kills=1, machine_oom_kills=2, limiter_peak_bytes=None)
    )
    assert outcome.evidence == (
        "the worker ended by SIGKILL; its control group counts 1 kill for memory; "
        "the machine counts 1 kill for memory outside the run's control group; "
        "at most 1.00 GiB anonymous in the samples"
    )
    assert diagnose(DONE).evidence is None


def test_the_log_is_named_when_it_holds_the_reason() -> None:
    assert "runs/x/worker.log" in (diagnose(replace(FAILED, log_tail=PLAIN)).hint or "")


def test_long_messages_are_cut() -> None:
    outcome = diagnose(replace(FAILED, log_tail=("ValueError: " + "x" * 5000,)))
    assert len(outcome.explanation) < 300


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (PLAIN, "ValueError: target modules {'q_proj'} not found"),
        (("Traceback (most recent call last):", '  File "x.py"'), 'File "x.py"'),  # torn by a kill
        (("last words", "  ", ""), "last words"),
        ((), None),
    ],
)
def test_the_line_that_says_what_went_wrong(lines: tuple[str, ...], expected: str | None) -> None:
    assert exception_line(lines) == expected
