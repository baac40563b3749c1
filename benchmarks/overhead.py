"""What watching costs: step times of a worker that trains, with and without the monitor, in turns.

`python -m benchmarks.overhead`. A child trains a small Llama on all cores. In every second block of its steps
this process does what a run's parent does: the monitor with its gauges, the record on disk, the live view.
Blocks are compared in pairs, in both orders; the interval is a bootstrap over pairs. Step times scatter by more than
the goal, so that in a longer stretch the processor time of watching is measured as well: the training wants all cores,
and what watching takes of them it cannot have. Three to four minutes.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from lplan.planner.events import Metric
from lplan.report.live import LiveView
from lplan.trainer.gauges import gauges_of_process
from lplan.trainer.monitor import Monitor, Reading
from lplan.trainer.process_tree import ProcessTree
from lplan.trainer.recorder import Recorder

from .machine_info import store

PAIRS = 24
STEPS_A_BLOCK = 20
STEPS_WATCHED = 800
MOST_S = 150.0
GOAL = 0.01

TRAIN = """
import os, time, torch
from transformers import LlamaConfig, LlamaForCausalLM
torch.set_num_threads(os.cpu_count())
config = LlamaConfig(hidden_size=256, intermediate_size=704, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=4, vocab_size=1024)
model = LlamaForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters())
ids = torch.randint(0, 1024, (4, 64))
while True:
    began = time.perf_counter()
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(time.perf_counter() - began, flush=True)
"""


def block(child: subprocess.Popen[str], *, watched: bool) -> list[float]:
    """Seconds of each step of one block; the first step, in which watching starts or ends, is left out."""
    if watched:
        return watch(child, STEPS_A_BLOCK)[0]
    assert child.stdout is not None
    return [float(child.stdout.readline()) for _ in range(STEPS_A_BLOCK + 1)][1:]


def watch(child: subprocess.Popen[str], steps: int) -> tuple[list[float], float]:
    """Seconds of so many steps after the first, and this process's share of all cores meanwhile."""
    assert child.stdout is not None
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        view = LiveView(Console(file=nowhere, force_terminal=True, width=120, height=40))
        with view, Recorder(Path(folder) / "events.jsonl", view.handle) as record:
            tree = ProcessTree(child.pid)

            def on_reading(reading: Reading) -> None:
                record(reading.sample)

            monitor = Monitor(
                tree,
                gauges=gauges_of_process(child.pid, tree.known),
                on_reading=on_reading,
                started_s=time.monotonic(),
            )
            monitor.start()
            times: list[float] = []
            for step in range(steps + 1):
                times.append(float(child.stdout.readline()))
                if step == 0:
                    began_s, began_cpu_s = time.perf_counter(), time.process_time()
                record(
                    Metric(
                        t_s=float(step), step=step, loss=1.0, learning_rate=1e-4, tokens=512, step_s=times[-1]
                    )
                )
            taken_s, wall_s = time.process_time() - began_cpu_s, time.perf_counter() - began_s
            monitor.stop()
    return times[1:], taken_s / wall_s / len(os.sched_getaffinity(0))


def overhead(pairs: list[tuple[float, float]]) -> float:
    """The median over pairs of how much longer a watched step takes, as a share."""
    return median(watched / alone - 1 for alone, watched in pairs)


def interval(pairs: list[tuple[float, float]], draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of `overhead`."""
    generator = random.Random(0)
    found = sorted(overhead(generator.choices(pairs, k=len(pairs))) for _ in range(draws))
    return found[draws // 40], found[-draws // 40 - 1]


def measure() -> tuple[list[dict[str, Any]], float]:
    """Medians of the blocks of every pair, every second pair watched first; and the share of the cores."""
    child = subprocess.Popen([sys.executable, "-c", TRAIN], stdout=subprocess.PIPE, text=True)
    try:
        block(child, watched=False)
        rows = []
        began_s = time.monotonic()
        for pair in range(PAIRS):
            if time.monotonic() - began_s > MOST_S:
                break
            first = pair % 2 == 1
            times = {watched: median(block(child, watched=watched)) for watched in (first, not first)}
            rows.append({"alone_s": times[False], "watched_s": times[True], "watched_first": first})
        return rows, watch(child, STEPS_WATCHED)[1]
    finally:
        child.kill()
        child.wait()


def main() -> None:
    """Measure, store, and say it."""
    rows, processors = measure()
    pairs = [(row["alone_s"], row["watched_s"]) for row in rows]
    share, (low, high) = overhead(pairs), interval(pairs)
    store(
        "overhead", rows, overhead=share, interval_95=[low, high], processor_share=processors, goal=GOAL,
        steps_a_block=STEPS_A_BLOCK, steps_watched=STEPS_WATCHED,
    )  # fmt: skip
    step_ms = 1000 * median(alone for alone, _ in pairs)
    print(f"{share:+.2%} of a step of {step_ms:.0f} ms (95 %: {low:+.2%} to {high:+.2%}); goal: {GOAL:.0%}")
    print(f"watching takes {processors:.2%} of all cores' time")


if __name__ == "__main__":
    main()
