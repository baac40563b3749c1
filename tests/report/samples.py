"""Nouns to draw, with realistic figures: TinyLlama on 8 GiB, SmolLM2-135M on 2 GiB, a run of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from lplan.planner.estimate import ByteRange, Estimate, PhaseEstimate
from lplan.planner.events import (
    SCHEMA,
    Evaluation,
    Event,
    Metric,
    Note,
    Outcome,
    Phase,
    PhasePeak,
    Sample,
    Start,
)
from lplan.planner.plan import DataReference, Decision, Plan, Rejected, Schedule, TimeEstimate
from lplan.planner.recipe import Recipe
from lplan.profiles.hardware import Budget, Hardware, Limit
from lplan.profiles.model import ModelProfile, WeightFiles
from lplan.profiles.units import GIB, MIB

CPU_8GB = Hardware(
    name="cpu-8gb",
    device="cpu",
    memory_bytes=8 * GIB,
    reserve_bytes=512 * MIB,
    cores=2,
    cpu_features=("avx2", "avx512f", "avx512_bf16"),
    source="sample",
)
TINYLLAMA = ModelProfile(
    id="TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    alias="tinyllama",
    model_type="llama",
    architecture="LlamaForCausalLM",
    config={"num_hidden_layers": 22, "hidden_size": 2048},
    parameters=1_100_048_384,
    weights=WeightFiles(format="safetensors", dtype="bfloat16", total_bytes=2_200_119_864),
    location=None,
    source="sample",
)
SMOLLM2 = replace(
    TINYLLAMA,
    id="HuggingFaceTB/SmolLM2-135M-Instruct",
    alias="smollm2-135m",
    config={"num_hidden_layers": 30, "hidden_size": 576},
    parameters=134_515_008,
)
LIBRARIES_BYTES = 343 * MIB
LIBRARIES_FILE_BYTES = 83 * MIB

QKVO = Recipe(
    rank=8,
    target_modules=("q_proj", "k_proj", "v_proj", "o_proj"),
    batch_size=2,
    accumulation=4,
    seq_len=512,
    supervised_len=512,
    precision="bf16",
    checkpointing="none",
    allocator="pinned",
)

Parts = Mapping[str, int]


def phase(
    name: str, parts: Parts, *, file_bytes: int, expected_bytes: int, spread: float = 0.02
) -> PhaseEstimate:
    """A phase whose range is `spread` to both sides."""
    assert sum(parts.values()) == expected_bytes, f"{name}: a part is counted twice or not at all"
    margin = int(expected_bytes * spread)
    peak = ByteRange(
        low_bytes=expected_bytes - margin, expected_bytes=expected_bytes, high_bytes=expected_bytes + margin
    )
    return PhaseEstimate(
        name=name,
        peak=peak,
        components=parts,
        anonymous_bytes=expected_bytes - file_bytes,
        file_bytes=file_bytes,
    )


def phases(weights: int, adapters: int, step: Parts, evaluation: Parts) -> tuple[PhaseEstimate, ...]:
    """The seven phases of a LoRA run whose weights are mapped from their file; sizes in bytes."""
    runtime = {"runtime": LIBRARIES_BYTES}
    loaded = {"weights": weights, **runtime}
    wrapped = {"weights": weights, "adapters": adapters, **runtime}
    states = {"gradients": adapters, "optimizer": 2 * adapters}
    slack = {"allocator slack": 24 * MIB}
    saving = {**wrapped, "optimizer": 2 * adapters, "temporaries": adapters}
    steady = {**wrapped, **states, **step, **slack}
    first = {**wrapped, **states, **step, "allocator slack": 8 * MIB}
    table: dict[str, Parts] = {
        "import": runtime,
        "load": loaded,
        "wrap": wrapped,
        "first step": first,
        "steady step": steady,
        "evaluation": {**wrapped, "optimizer": 2 * adapters, **evaluation, **slack},
        "save": {**saving, **slack},
    }
    totals = {name: _total(parts) for name, parts in table.items()}
    return tuple(
        phase(
            name,
            parts,
            file_bytes=LIBRARIES_FILE_BYTES + parts.get("weights", 0),
            expected_bytes=totals[name],
        )
        for name, parts in table.items()
    )


def _total(parts: Parts) -> int:
    total = 0
    for part in parts.values():
        total += part
    return total


def budget(size_bytes: int) -> Budget:
    """What --ram leads to."""
    reason = f"--ram gives the run all of {size_bytes / GIB:.2f} GiB"
    limit = Limit(name="--ram", limit_bytes=size_bytes, source="command line")
    return Budget(device="cpu", budget_bytes=size_bytes, reserve_bytes=0, limits=(limit,), reason=reason)


TINYLLAMA_8G = Estimate(
    model=TINYLLAMA,
    architecture="LlamaForCausalLM",
    parameters=1_102_301_184,
    trainable_parameters=2_252_800,
    recipe=QKVO,
    hardware=CPU_8GB,
    budget=budget(8 * GIB),
    phases=phases(
        weights=2_200_096_768,
        adapters=9_011_200,
        step={"activations": 2_508 * MIB, "logits and loss": 375 * MIB, "temporaries": 62 * MIB},
        evaluation={"activations": 90 * MIB, "logits and loss": 250 * MIB},
    ),
    assumptions=(
        "weights are mapped from a checkpoint in bf16, the dtype they are computed in",
        "the longest sequence (512 tokens) is met, in a padded batch of 2",
        "glibc's allocator pinned to a 128 KiB threshold, which the launcher sets",
    ),
    not_modelled=("the tokenizer's and the data set's own memory (tens of MiB)",),
    versions={"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
)

SMOLLM2_2G = replace(
    TINYLLAMA_8G,
    model=SMOLLM2,
    parameters=134_975_808,
    trainable_parameters=460_800,
    recipe=replace(QKVO, loss="supervised", seq_len=96, batch_size=8, accumulation=1),
    hardware=replace(CPU_8GB, name="this-machine"),
    budget=budget(2 * GIB),
    phases=phases(
        weights=269_030_016,
        adapters=1_843_200,
        step={"activations": 871 * MIB, "logits and loss": 68 * MIB, "temporaries": 21 * MIB},
        evaluation={"activations": 48 * MIB, "logits and loss": 52 * MIB},
    ),
)

TOO_LARGE = replace(
    TINYLLAMA_8G,
    trainable_parameters=1_100_048_384,
    parameters=1_100_048_384,
    recipe=Recipe(method="full", precision="fp32", batch_size=4),
    phases=(
        phase(
            "import", {"runtime": LIBRARIES_BYTES}, file_bytes=LIBRARIES_FILE_BYTES, expected_bytes=343 * MIB
        ),
        phase(
            "load",
            {"weights": 4_196 * MIB, "temporaries": 2_098 * MIB, "runtime": LIBRARIES_BYTES},
            file_bytes=2_181 * MIB,
            expected_bytes=6_637 * MIB,
        ),
        phase(
            "steady step",
            {
                "weights": 4_196 * MIB,
                "gradients": 4_196 * MIB,
                "optimizer": 8_393 * MIB,
                "activations": 3_100 * MIB,
                "logits and loss": 750 * MIB,
                "runtime": LIBRARIES_BYTES,
            },
            file_bytes=LIBRARIES_FILE_BYTES,
            expected_bytes=20_978 * MIB,
        ),
    ),
)

PLAN = Plan(
    recipe=TINYLLAMA_8G.recipe,
    schedule=Schedule(),
    estimate=TINYLLAMA_8G,
    decisions=(
        Decision(knob="effective batch", value="8", reason="the task's default", given=False),
        Decision(
            knob="micro batch",
            value="2 × 4",
            reason="most tokens per second that fit",
            rejected=(
                Rejected(value="4 × 2", reason="needs 8.31 GiB"),
                Rejected(value="1 × 8", reason="6 % slower"),
            ),
        ),
        Decision(knob="sequence length", value="512", reason="--seq-len 512", given=True),
        Decision(
            knob="precision",
            value="bf16",
            reason="this CPU multiplies bf16 itself, measured 2.6 times as fast as fp32",
            rejected=(Rejected(value="fp32", reason="needs 9.87 GiB and is slower"),),
        ),
        Decision(
            knob="checkpointing",
            value="none",
            reason="all activations fit, so nothing is computed twice",
            rejected=(Rejected(value="full", reason="31 % slower, saves 2.21 GiB that nobody needs"),),
        ),
        Decision(
            knob="allocator",
            value="pinned",
            reason="glibc's own threshold would keep 1.90 GiB of freed activations",
            rejected=(Rejected(value="default", reason="needs 7.12 GiB, less surely"),),
        ),
        Decision(knob="threads", value="2", reason="every usable core"),
    ),
    time=TimeEstimate(step_s=38.2, tokens_per_s=104.3, total_s=4_310.0, steps=113),
    data=DataReference(
        location="data/banking77",
        task="banking77",
        fingerprint="0" * 64,
        samples=300,
        longest_tokens=512,
    ),
)

CLOSEST = replace(
    PLAN,
    recipe=replace(QKVO, batch_size=1, accumulation=8, seq_len=128, checkpointing="full", loss="chunked"),
    estimate=replace(
        TINYLLAMA_8G,
        recipe=replace(QKVO, batch_size=1, accumulation=8, seq_len=128, checkpointing="full", loss="chunked"),
        budget=budget(2 * GIB),
        phases=phases(
            weights=2_200_096_768,
            adapters=9_011_200,
            step={"activations": 14 * MIB, "logits and loss": 47 * MIB, "temporaries": 62 * MIB},
            evaluation={"activations": 5 * MIB, "logits and loss": 40 * MIB},
        ),
    ),
)

DONE = Outcome(
    t_s=92.4,
    verdict="done",
    explanation="40 steps; the adapter is in runs/demo/adapter",
    hint=None,
    exit_code=0,
    phase="save",
    step=40,
)
KILLED = Outcome(
    t_s=61.0,
    verdict="out-of-memory",
    explanation="the kernel killed the worker at its limit of 2.00 GiB in the steady step after step 22",
    hint="try --checkpointing full, or --ram 2.3G",
    exit_code=1,
    phase="steady step",
    step=22,
)


def run_events(*, steps: int = 40, until_s: float = 92.4) -> Iterator[Event]:
    """A SmolLM2 demo run: four samples a second, phases, one metric a step, its end."""
    yield Start(
        t_s=0.0,
        schema=SCHEMA,
        run="runs/demo",
        model=SMOLLM2.id,
        budget_bytes=2 * GIB,
        limiter="cgroup-v1",
        planned_peak_bytes=SMOLLM2_2G.peak.peak.expected_bytes,
        total_steps=steps,
        time="2026-08-20T09:00:00+00:00",
    )
    timed = [*_phases(), *_metrics(steps), *_samples(), DONE]
    timed.append(Note(t_s=52.1, text="checkpoint written at step 20"))
    timed.append(Evaluation(t_s=89.5, step=40, loss=0.741, samples=77))
    yield from (event for event in sorted(timed, key=lambda event: event.t_s) if event.t_s <= until_s)


_PHASE_BEGINS = {
    "import": 0.1,
    "load": 6.0,
    "wrap": 8.5,
    "first step": 9.5,
    "steady step": 11.8,
    "evaluation": 84.0,
}
_PHASE_BEGINS["save"] = 90.0


def _phases() -> Iterator[Event]:
    ends = [*list(_PHASE_BEGINS.values())[1:], 92.0]
    for (name, begin), end in zip(_PHASE_BEGINS.items(), ends, strict=True):
        yield Phase(t_s=begin, name=name)
        planned = next(phase for phase in SMOLLM2_2G.phases if phase.name == name)
        rss = int(planned.peak.expected_bytes * (1.031 if name == "load" else 0.997))
        yield PhasePeak(
            t_s=end - 0.001,
            name=name,
            rss_bytes=rss,
            anonymous_bytes=rss - planned.file_bytes,
            file_bytes=planned.file_bytes,
        )


def _metrics(steps: int) -> Iterator[Event]:
    for step in range(1, steps + 1):
        yield Metric(
            t_s=9.7 + 1.85 * step,
            step=step,
            loss=0.6 + 3.2 * math.exp(-step / 9) + 0.12 * math.sin(2.1 * step),
            learning_rate=2e-4,
            tokens=380,
            step_s=1.82,
        )


def _samples() -> Iterator[Event]:
    for tick in range(1, 368):
        t_s = tick / 4
        name = [name for name, begin in _PHASE_BEGINS.items() if begin <= max(t_s, 0.25)][-1]
        planned = next(phase for phase in SMOLLM2_2G.phases if phase.name == name)
        swing = 0.55 + 0.44 * abs(math.sin(1.7 * t_s)) if "step" in name else 0.99
        anonymous = int(planned.anonymous_bytes * swing)
        yield Sample(
            t_s=t_s,
            rss_bytes=anonymous + planned.file_bytes,
            anonymous_bytes=anonymous,
            file_bytes=planned.file_bytes,
            swap_bytes=0,
        )
