"""What an evaluation keeps, against transformers' own Trainer: live bytes in this process, resident ones in another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import made_up
import pytest
import torch
from tiny_models import TINY_MODELS, make_model

from lplan.benchmarks.side_by_side import _WatchingTracker, live_peaks
from lplan.planner.allocator import environment_of
from lplan.planner.estimating import Situation, make_estimate, shape_of
from lplan.planner.footprint import footprint_from_dict
from lplan.planner.gathering import Gathering, Part, gathering
from lplan.planner.recipe import Recipe
from lplan.planner.request import make_request
from lplan.planner.tracing.trace import trace
from lplan.profiles.errors import UsageError
from lplan.profiles.named import find_hardware
from lplan.profiles.units import GIB

VOCABULARY = 4000
CONFIG = {**TINY_MODELS["llama"], "vocab_size": VOCABULARY}
TOKENS, BATCH, SAMPLES = 32, 2, 10
RECIPE = Recipe(
    eval_logits="gathered", eval_samples=SAMPLES, batch_size=BATCH, accumulation=1, seq_len=TOKENS,
    supervised_len=TOKENS, padding="none", precision="fp32", init="random",
)  # fmt: skip
LOGITS = BATCH * TOKENS * VOCABULARY * 4


def estimated(recipe):
    """The evaluation phase of a recipe on CONFIG."""
    here = Situation(
        model=replace(made_up.MODEL, config=CONFIG), hardware=made_up.HARDWARE, budget=made_up.budget(8 * GIB),
        baseline=made_up.LIBRARIES, versions={},
    )  # fmt: skip
    found = trace(CONFIG, recipe, shape_of(recipe))
    (phase,) = (p for p in make_estimate(recipe, found, here).phases if p.name == "evaluation")
    return phase


def evaluated(recipe, folder):
    """Live bytes at the peak of a real evaluation by the Trainer, as the repository's tracker sees them."""
    from transformers import Trainer, TrainingArguments

    torch.manual_seed(0)
    model = make_model(CONFIG, recipe)
    ids = torch.arange(SAMPLES * TOKENS).remainder(VOCABULARY).reshape(SAMPLES, TOKENS)
    arguments = TrainingArguments(
        output_dir=str(folder), per_device_eval_batch_size=recipe.batch_size, report_to="none", use_cpu=True,
        remove_unused_columns=False, disable_tqdm=True, bf16=recipe.precision == "bf16-amp",
    )  # fmt: skip
    first = (lambda logits, labels: logits.argmax(dim=-1)) if recipe.eval_logits == "argmax" else None
    trainer = Trainer(
        model=model, args=arguments, eval_dataset=[{"input_ids": row, "labels": row} for row in ids],
        compute_metrics=lambda predictions: {}, preprocess_logits_for_metrics=first,
    )  # fmt: skip
    tracker = _WatchingTracker(mask_is_full=True)
    tracker.enter("evaluation", "load")
    tracker.adopt([*model.parameters(), *model.buffers()], "weights")
    with tracker:
        trainer.evaluate()
    return live_peaks(tracker)["evaluation"]


@pytest.mark.parametrize("knobs", [
    {}, {"precision": "bf16"}, {"precision": "bf16-amp"}, {"eval_logits": "argmax"}, {"eval_samples": BATCH},
], ids=["fp32", "bf16", "autocast", "argmax", "one batch"])  # fmt: skip
def test_as_much_is_alive_as_in_the_trainers_own_evaluation(knobs, tmp_path, monkeypatch):
    recipe = replace(RECIPE, **knobs)
    monkeypatch.setattr(sys.modules[__name__], "SAMPLES", recipe.eval_samples)
    phase = estimated(recipe)
    parts = ("weights", "adapters", "activations", "logits and loss", "temporaries")
    predicted = sum(phase.components.get(part, 0) for part in parts)
    assert predicted == pytest.approx(evaluated(recipe, tmp_path), rel=0.002)


_EVALUATE = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments
from lplan.trainer.process_tree import reset_high_water, usage_of
config, dtype, steps, folder, samples, batch, tokens = json.loads(sys.argv[1])
model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=getattr(torch, dtype))
ids = torch.arange(samples * tokens).remainder(1000).reshape(samples, tokens)
rows = [{"input_ids": row, "labels": row} for row in ids]
arguments = TrainingArguments(
    output_dir=folder, per_device_eval_batch_size=batch, report_to="none", use_cpu=True, disable_tqdm=True,
    remove_unused_columns=False, eval_accumulation_steps=steps or None,
)
trainer = Trainer(model=model, args=arguments, eval_dataset=rows, compute_metrics=lambda predictions: {})
trainer.evaluate(eval_dataset=rows[:batch])
before = usage_of("self").rss_bytes
if reset_high_water():
    trainer.evaluate()
    print(json.dumps(usage_of("self").high_water_bytes - before))
"""


@pytest.mark.parametrize(("dtype", "steps", "batches"), [
    ("float32", 0, 6), ("float32", 2, 6), ("bfloat16", 0, 6), ("bfloat16", 2, 7),
])  # fmt: skip
def test_a_process_grows_by_what_is_gathered(dtype, steps, batches, tmp_path):
    """Moved to NumPy after every other batch, or at the end: 16,000 logits for each of 512 tokens a batch."""
    config = {**TINY_MODELS["llama"], "vocab_size": 16_000}
    run = subprocess.run(
        [sys.executable, "-c", _EVALUATE,
         json.dumps([config, dtype, steps, str(tmp_path), 2 * batches, 2, 256])],
        env={**os.environ, **environment_of("pinned", threads=1)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    if not run.stdout.strip():
        pytest.skip("this kernel does not let a process reset its high-water mark")
    one = 512 * 16_000 * (4 if dtype == "float32" else 2)
    labels = 512 * 8
    kept = Gathering(
        parts=(Part(one, 512 * 16_000 * 4), Part(labels, labels)), batches=batches, group=steps or batches
    )
    assert kept.as_arrays(shared=True) == pytest.approx(json.loads(run.stdout.splitlines()[-1]), rel=0.03)


def on_gpu(**knobs):
    return replace(RECIPE, device="cuda", kernel="efficient", allocator="default", precision="bf16", **knobs)


def test_on_a_gpu_the_device_holds_both_halves_of_a_join_and_the_host_fp32_arrays():
    """EvalLoopContainer: n batches and n again are alive when the last one is joined; NumPy has no bf16."""
    recipe = on_gpu()
    found = trace(CONFIG, recipe, shape_of(recipe))
    kept = gathering(recipe, found, shape_of(recipe))
    one, labels, n = LOGITS // 2, BATCH * TOKENS * 8, SAMPLES // BATCH
    assert kept.joining() == 2 * n * one + n * labels
    assert kept.as_arrays(shared=False) == n * one + 2 * n * one
    moved = gathering(replace(recipe, eval_accumulation_steps=1), found, shape_of(recipe))
    assert moved.joining() == one + labels
    assert moved.as_arrays(shared=False) == 2 * n * 2 * one + (n - 1) * labels


def test_the_reserved_memory_of_a_gpu_knows_the_joins():
    here = Situation(
        model=replace(made_up.MODEL, config=CONFIG), hardware=find_hardware("a100-40gb"),
        budget=made_up.budget(30 * GIB), baseline=made_up.LIBRARIES, versions={},
    )  # fmt: skip
    by_logits = {}
    for logits in ("none", "gathered"):
        recipe = on_gpu(eval_logits=logits, eval_samples=4000)
        found = trace(CONFIG, recipe, shape_of(recipe))
        phases = make_estimate(recipe, found, here).phases
        by_logits[logits] = {phase.name: phase for phase in phases}
    plain, kept = (by_logits[logits]["evaluation"] for logits in ("none", "gathered"))
    batches = 4000 // BATCH
    more = kept.cuda.allocated_bytes - plain.cuda.allocated_bytes
    assert more == pytest.approx(2 * batches * LOGITS // 2, rel=0.02)
    assert kept.host.pageable_bytes == pytest.approx(3 * batches * LOGITS // 2, rel=0.001)
    assert kept.cuda.reserved_bytes >= kept.cuda.allocated_bytes
    assert by_logits["gathered"]["save"].host.pageable_bytes == 0
    assert by_logits["gathered"]["steady step"].peak == by_logits["none"]["steady step"].peak


def test_a_footprint_keeps_what_is_gathered():
    found = trace(CONFIG, RECIPE, shape_of(RECIPE))
    assert [part.widened for part in found.gathered] == [False, False]
    assert footprint_from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_how_many_sequences_has_to_be_said():
    with pytest.raises(UsageError, match="--eval-logits gathered"):
        make_request({"eval_logits": "gathered"}, made_up.HARDWARE)


def test_other_losses_have_no_logits_to_keep():
    with pytest.raises(UsageError, match="logits of all positions"):
        replace(RECIPE, loss="chunked")
