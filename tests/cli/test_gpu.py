"""Estimates and plans for GPUs, with the real tracing process, on a machine that has none."""

import json
import sys

import pytest
from fake_nvml import T4, FakeNvml
from tiny_models import TINY_MODELS

pytestmark = pytest.mark.usefixtures("real_tracing")


@pytest.mark.parametrize(
    "words", [(), ("--method", "qlora"), ("--precision", "fp16-amp", "--optimizer", "adafactor")]
)
def test_an_estimate_for_a_t4(lplan, model, words):
    result = lplan("estimate", "--model", model, "--hardware", "t4", "--json", *words)
    assert result.status == 0, result.err
    found = result.document
    cuda, peak = found["cuda"], found["peak"]
    assert 0 < cuda["allocated_bytes"] <= cuda["reserved_bytes"] < cuda["process_bytes"]
    assert cuda["process_bytes"] == peak["expected_bytes"]
    assert found["cpu"] is None
    assert found["hardware"]["device"] == "cuda"
    for phase in found["phases"]:
        assert sum(phase["components"].values()) == phase["peak"]["expected_bytes"]


def test_a_gpu_that_is_not_there_is_supposed(lplan, model):
    result = lplan("estimate", "--model", model, "--vram", "8G")
    assert result.status == 0, result.err
    assert "supposed" in result.out


def test_a_plan_for_a_t4(lplan, model):
    result = lplan("plan", "--model", model, "--hardware", "t4", "--loss", "full", "--json")
    assert result.status == 0, result.err
    found = result.document
    recipe = found["recipe"]
    assert (recipe["device"], recipe["precision"], recipe["allocator"]) == ("cuda", "fp16", "default")
    assert recipe["batch_size"] * recipe["accumulation"] == 8
    assert found["estimate"]["fits"]
    assert found["time"]["tokens_per_s"] > 0
    assert all(decision["reason"] for decision in found["decisions"])


def test_what_does_not_fit_a_gpu(lplan, model):
    result = lplan("plan", "--model", model, "--vram", "100M", "--loss", "full")
    assert result.status == 3
    assert "no plan fits" in result.err


def test_a_run_on_a_gpu_needs_a_torch_for_it(lplan, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(T4))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("lplan.planner.packages.stack_versions", lambda: {"torch": "2.13.0+cpu"})
    result = lplan("fit-and-train", "--model", model, "--data", "demo", "--task", "banking77")
    assert result.status == 1
    assert "torch 2.13.0+cpu is a build for CPUs" in result.err
    assert "--ram SIZE" in result.err


def test_this_machines_gpu_is_planned_for(lplan, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(T4))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = lplan("plan", "--model", model, "--loss", "full", "--json").document
    assert (found["recipe"]["device"], found["estimate"]["hardware"]["name"]) == ("cuda", "this-machine")
    assert found["time"]["tokens_per_s"] > 0


def test_attention_is_named_as_the_model_computes_it(lplan, tmp_path):
    """Gemma 2 caps its scores, which no fused kernel does: transformers gives it eager attention."""
    (tmp_path / "config.json").write_text(json.dumps(TINY_MODELS["gemma2"]))
    result = lplan("estimate", "--model", str(tmp_path), "--hardware", "t4")
    assert "attention by transformers (eager)" in " ".join(result.out.split())
