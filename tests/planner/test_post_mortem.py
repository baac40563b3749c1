"""Other people's logs: the figures that the messages name are found, and lead to the right knob.

The figures are those of public threads, named beside each; the wording is the program's own message format.
"""

from __future__ import annotations

import pytest

from lplan.planner.post_mortem import explain_log
from lplan.profiles.units import parse_size

ADVICE = "If reserved {0} is {1} try setting max_split_size_mb to avoid fragmentation."
OLDER = ADVICE.format("memory", ">> allocated memory")

CUDA = [
    # github.com/pytorch/pytorch/issues/16417: torch 1.0's wording
    (
        "RuntimeError: CUDA out of memory. Tried to allocate 12.50 MiB (GPU 0; 10.92 GiB total capacity; "
        "8.57 MiB already allocated; 9.28 GiB free; 4.68 MiB cached)",
        {"tried": "12.50MiB", "capacity": "10.92GiB", "allocated": "8.57MiB", "free": "9.28GiB"},
        False,
    ),
    # github.com/microsoft/unilm/issues/137: torch 1.4
    (
        "RuntimeError: CUDA out of memory. Tried to allocate 128.00 MiB (GPU 0; 11.17 GiB total capacity; "
        "10.85 GiB already allocated; 24.81 MiB free; 10.86 GiB reserved in total by PyTorch)",
        {"tried": "128MiB", "capacity": "11.17GiB", "allocated": "10.85GiB", "reserved": "10.86GiB"},
        False,
    ),
    # github.com/guoyww/AnimateDiff/issues/312: torch 1.13, in pieces
    (
        "RuntimeError: CUDA out of memory. Tried to allocate 16.00 GiB (GPU 0; 47.54 GiB total capacity; "
        f"23.76 GiB already allocated; 6.30 GiB free; 39.59 GiB reserved in total by PyTorch) {OLDER}",
        {"tried": "16GiB", "reserved": "39.59GiB", "allocated": "23.76GiB"},
        True,
    ),
    # github.com/FoundationVision/GenerateU/issues/10: torch 2.1 ("capacty")
    (
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 496.00 MiB. GPU 0 has a total "
        "capacty of 14.75 GiB of which 235.06 MiB is free. Process 20398 has 14.52 GiB memory in use. Of the "
        "allocated memory 14.06 GiB is allocated by PyTorch, and 330.42 MiB is reserved by PyTorch but unallocated.",
        {"tried": "496MiB", "capacity": "14.75GiB", "free": "235.06MiB", "unallocated": "330.42MiB"},
        True,  # 330 + 235 MiB would hold the 496
    ),
    # github.com/murong-xu/CADS/issues/4: torch 2.5
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 22.78 GiB. GPU 0 has a total capacity of "
        "31.47 GiB of which 12.73 GiB is free. Including non-PyTorch memory, this process has 18.73 GiB memory in "
        "use. Of the allocated memory 9.08 GiB is allocated by PyTorch, and 9.35 GiB is reserved by PyTorch but "
        "unallocated.",
        {"capacity": "31.47GiB", "free": "12.73GiB", "allocated": "9.08GiB", "unallocated": "9.35GiB"},
        False,  # 9.35 + 12.73 GiB would not hold the 22.78
    ),
]


@pytest.mark.parametrize(("line", "figures", "in_pieces"), CUDA, ids=["1.0", "1.4", "1.13", "2.1", "2.5"])
def test_cuda_messages_of_several_versions(line: str, figures: dict[str, str], in_pieces: bool) -> None:
    finding = explain_log(f"Traceback (most recent call last):\n  File x\n{line}\nmore\n")
    assert finding is not None
    assert finding.cause == "CUDA out of memory"
    assert {name: finding.figures[name] for name in figures} == {
        name: pytest.approx(parse_size(size), abs=1) for name, size in figures.items()
    }
    assert ("expandable_segments" in finding.knobs[0]) is in_pieces


OTHER = [
    # github.com/pcyin/tranX/issues/41
    (
        "[2059991.49] Out of memory: Killed process 25315 (python3) total-vm:53312244kB, anon-rss:31451456kB, "
        "file-rss:74816kB, shmem-rss:12296kB, UID:0",
        "killed by the kernel for memory",
        "python3 (25315) held 29.99 GiB anonymous: the machine was full",
    ),
    # github.com/reportportal/kubernetes/issues/203
    (
        "[ 7063.24] Memory cgroup out of memory: Killed process 63214 (uwsgi) total-vm:3149468kB, "
        "anon-rss:164992kB, file-rss:52176kB",
        "killed by the kernel for memory",
        "control group",
    ),
    # github.com/ArjunaCluster/ArjunaUsers/issues/52
    (
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=191.batch cgroup.",
        "killed by the kernel for memory",
        "scheduler",
    ),
    # github.com/facebookresearch/Mask2Former/issues/185
    (
        "RuntimeError: [enforce fail at alloc_cpu.cpp:73] . DefaultCPUAllocator: can't allocate memory: you tried "
        "to allocate 3077222400 bytes. Error code 12 (Cannot allocate memory)",
        "allocation refused",
        "2.87 GiB",
    ),
    # github.com/fidelity/stoke/issues/31
    ("  traceback : Signal 9 (SIGKILL) received by PID 10398", "killed by SIGKILL", "dmesg"),
    ("line 28:  8156 Killed   python3 main.py", "killed by SIGKILL", "dmesg"),
    ("Epoch 3\nKilled\n", "killed by SIGKILL", "dmesg"),
    # github.com/jquesnelle/yarn/issues/18
    ("OSError: [Errno 28] No space left on device", "disk full", "written"),
    # github.com/bitsandbytes-foundation/bitsandbytes/issues/828
    (
        "RuntimeError: \n   CUDA Setup failed despite GPU being available. Please run",
        "bitsandbytes cannot use this GPU's CUDA",
        "memory is not the cause",
    ),
    # slurmstepd, src/slurmd/slurmstepd of Slurm 20.11 to 24.05
    (
        "slurmstepd: error: *** JOB 8410 ON cn12 CANCELLED AT 2024-03-01T10:02:03 DUE TO PREEMPTION ***",
        "told to end from outside",
        "preemption",
    ),
    # torch/distributed/elastic/multiprocessing/api.py
    (
        "torch.distributed.elastic.multiprocessing.api.SignalException: Process 12 got signal: 15",
        "told to end from outside",
        "SIGTERM",
    ),
    ("Terminated\n", "told to end from outside", "SIGTERM"),
    # Lib/test/test_faulthandler.py of CPython; bash's job control
    ("Fatal Python error: Segmentation fault\n\nCurrent thread 0x", "a library crashed", "compiled"),
    (
        "run.sh: line 3: 411 Segmentation fault      (core dumped) python train.py",
        "a library crashed",
        "compiled",
    ),
    # kernel/hung_task.c; faulthandler.dump_traceback_later
    ("INFO: task python3:4242 blocked for more than 120 seconds.", "hang", "network file system"),
    ("Timeout (0:10:00)!\nThread 0x00007f (most recent call first):", "hang", "waited"),
    # earlyoom's and systemd-oomd's own words
    (
        'earlyoom[811]: sending SIGTERM to process 3131 uid 1000 "python3": badness 907, VmRSS 12130 MiB',
        "killed by a memory guard",
        "earlyoom",
    ),
    # torch/utils/data/_utils/signal_handling.py
    (
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).",
        "shared memory is full",
        "/dev/shm",
    ),
    ("RuntimeError: CUDA error: out of memory", "CUDA out of memory", "driver"),
    ("MemoryError", "allocation refused", "refused"),
    (
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 GiB",
        "allocation refused",
        "refused",
    ),
    # github.com/pytorch/pytorch/issues/118369
    (
        "[E ProcessGroupNCCL.cpp:458] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=96120",
        "NCCL timed out",
        "other ranks",
    ),
]


@pytest.mark.parametrize(("line", "cause", "words"), OTHER)
def test_other_ends(line: str, cause: str, words: str) -> None:
    finding = explain_log(line)
    assert finding is not None
    assert finding.cause == cause
    assert words in finding.explanation
    assert finding.evidence
    assert finding.knobs


def test_the_kernels_word_comes_before_the_consequence() -> None:
    finding = explain_log(OTHER[9][0] + "\n" + OTHER[1][0])
    assert finding is not None
    assert finding.cause == "killed by the kernel for memory"


@pytest.mark.parametrize("line", ["", "all went well", "who killed the radio star", "loss 3.2 \x00\xff"])
def test_a_log_that_says_nothing(line: str) -> None:
    assert explain_log(line) is None
