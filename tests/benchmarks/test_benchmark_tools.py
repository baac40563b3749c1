"""What the benchmarks measure with."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from model_files import TINY, TINY_PARAMETERS

from lplan.benchmarks.cases import TIMED
from lplan.benchmarks.gemm_limit import (
    gemm_limit,
    linear_shapes,
    lora_step_flop,
    matmul_parameters,
    share_of_limit,
)
from lplan.benchmarks.peak_of import peak_of
from lplan.benchmarks.plan_quality import QUICK, Reached, budgets, grid, judged
from lplan.benchmarks.step_time import rank_correlation, row, summary
from lplan.benchmarks.trl_baseline import PhaseMarks, run_trl
from lplan.planner.recipe import Recipe
from lplan.profiles.machine import this_machine

MIB = 2**20
SMOLLM2_135M = {
    "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
}  # fmt: skip


def test_peak_of_sees_what_a_command_held_and_said() -> None:
    script = f"print('hello'); held = b'x' * {200 * MIB}; import time; time.sleep(0.3)"
    ended = peak_of([sys.executable, "-c", script])
    assert (ended.returncode, ended.stdout) == (0, "hello\n")
    assert 200 * MIB < ended.anonymous_bytes < 240 * MIB
    assert ended.anonymous_bytes < ended.rss_bytes < 250 * MIB
    assert ended.wall_s > 0.3


def test_peak_of_leaves_a_failure_to_the_caller() -> None:
    ended = peak_of([sys.executable, "-c", "raise SystemExit('no')"])
    assert (ended.returncode, ended.stderr) == (1, "no\n")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_phase_keeps_its_own_mark() -> None:
    marks = PhaseMarks("before")
    marks.enter("large")
    held = b"x" * (300 * MIB)
    marks.enter("small")
    del held
    marks.enter("again")
    marks.enter("end")
    if not marks.reset:
        pytest.skip("the kernel's mark may not be reset here")
    assert marks.peaks["large"] > marks.peaks["again"] + 250 * MIB


def test_the_multiplied_weights_are_all_but_norms() -> None:
    # 134,515,008 parameters as published, the tied head among them; 2 norms a layer and one more, 576 wide each.
    assert matmul_parameters(SMOLLM2_135M) == 134_515_008 - 61 * 576
    # Untied: the embedding is looked up, not multiplied.
    assert matmul_parameters(TINY) == TINY_PARAMETERS - 128 * 32 - 5 * 32


def test_a_fused_projection_counts_once() -> None:
    # GPT-2's Conv1D: attention in and out, MLP up and down; the head is tied.
    gpt2 = {"model_type": "gpt2", "n_embd": 48, "n_layer": 2, "n_head": 4, "vocab_size": 100}
    assert linear_shapes(gpt2) == {(48, 144): 2, (48, 48): 2, (48, 192): 2, (192, 48): 2, (48, 100): 1}


@pytest.mark.parametrize(("recompute", "per_parameter"), [(False, 4), (True, 6)])
def test_flop_of_a_lora_step(recompute: bool, per_parameter: int) -> None:
    parameters = matmul_parameters(TINY)
    assert lora_step_flop(TINY, 10, recompute=recompute) == per_parameter * parameters * 10
    rate = lora_step_flop(TINY, 1, recompute=recompute) * 250
    assert share_of_limit(250, parameters, recompute, 4 * rate) == pytest.approx(0.25)


def test_the_limit_is_of_this_machine() -> None:
    # A core does between 10**8 (no vector unit) and 10**13 FLOP/s.
    assert 1e8 < gemm_limit({(256, 256): 1}, "float32", tokens=128, repeats=3) < 2e13


def test_the_rank_correlation_is_spearmans() -> None:
    # The worked example of "Spearman's rank correlation coefficient" (Wikipedia): -29/165.
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    television = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert rank_correlation(iq, television) == pytest.approx(-29 / 165)
    assert rank_correlation([0.1, 3, 7], [1, 2, 30]) == pytest.approx(1)


def test_a_steps_time_is_judged_by_the_median_without_the_first() -> None:
    rows = [
        row(TIMED[0], 3.0, [9, 2, 2, 8]),
        row(TIMED[1], 4.0, [9, 5, 5, 5]),
        row(TIMED[2], 7.0, [1, 8, 7, 6]),
    ]
    assert [item["measured_s"] for item in rows] == [2, 5, 7]
    told = summary(rows)
    assert (told["median_error"], told["highest_error"]) == (pytest.approx(0.2), pytest.approx(0.5))
    assert told["lowest_error"] == pytest.approx(-0.2)


def test_step_times_are_of_twenty_runs_of_four_models() -> None:
    assert (
        len({case.name for case in TIMED})
        == len({str(case.recipe) + str(case.config) for case in TIMED})
        == 20
    )
    assert len({str(case.config) for case in TIMED}) == 4


class FakeMeter:
    """Twice the batch, twice the speed and the memory; recomputing halves memory and costs a third."""

    def __init__(self) -> None:
        self.model = SimpleNamespace(id="made up")
        self.again: list[int] = []

    def measure(self, recipe: Recipe, *, again: bool = False) -> Reached:
        if again:
            self.again.append(recipe.batch_size)
        speed = recipe.batch_size * (1.0 if recipe.checkpointing == "none" else 2 / 3)
        kept = 100 * MIB * recipe.batch_size * (2 if recipe.checkpointing == "none" else 1)
        return Reached(rss_bytes=kept, steps=[(round(600 * speed), 1.0)])


def test_a_plan_is_judged_by_what_fits_when_measured() -> None:
    start = Recipe(batch_size=1, accumulation=8)
    points = list(grid(start, QUICK))
    assert {recipe.effective_batch for recipe in points} == {8}
    assert len(points) == len(set(points)) == 16
    meter = FakeMeter()
    # Of 2 and 8 sequences, with recomputation and without: 200, 400, 800 and 1,600 MiB, four times each.
    assert budgets(meter, points) == ["1600M", "800M", "400M"]  # type: ignore[arg-type]
    # 2 without checkpointing take 400 MiB, 8 with it 800, 8 without 1,600; 8 with it are 8 * 2/3 as fast as the plan.
    found = judged(meter, start, "1G", points)  # type: ignore[arg-type]
    assert (found["best"]["batch_size"], found["best"]["checkpointing"]) == (8, "full")
    assert found["of_best"] == pytest.approx(3 / 16)
    assert (found["grid"], found["fitting"]) == (16, 12)
    assert sorted(meter.again) == [1, 8]
    alone = judged(meter, start, "200M", points)  # type: ignore[arg-type]
    assert (alone["fitting"], alone["of_best"]) == (4, pytest.approx(3 / 4))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs the group bench")
def test_trl_trains_a_model_without_a_chat_template(tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from lplan.trainer.data.tokenizer_training import train_tokenizer

    values = {**TINY, "vocab_size": 400}
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(tmp_path / "model")
    train_tokenizer(["where is my card"] * 9, 400, tmp_path / "model")
    rows = tmp_path / "rows.jsonl"
    turns = (
        [{"role": "user", "content": "where is my card"}],
        [{"role": "assistant", "content": "in the post"}],
    )
    rows.write_text((json.dumps({"prompt": turns[0], "completion": turns[1]}) + "\n") * 32, encoding="utf-8")

    result = run_trl(tmp_path / "model", rows, 3)

    settings = result["settings"]
    assert settings["weights_dtype"] == "torch.float32"
    assert settings["bf16"] == this_machine().computes_bf16
    assert settings["activation_checkpointing"]
    assert settings["per_device_train_batch_size"] == 8
    tokens = result["steps"][0]["tokens"]
    assert [step["tokens_before"] for step in result["steps"]] == [0, tokens, 2 * tokens]
    assert 0 < result["steps"][0]["supervised"] < tokens == result["steps"][0]["positions"]
    assert set(result["phases"]) == {"import", "prepare", "first step", "steady step", "save"}
    assert result["process"]["rss_bytes"] >= result["process"]["anonymous_bytes"] > 100 * MIB
