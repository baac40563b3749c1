"""What is offloaded leaves the device, waits on the host, and travels: each against a count made another way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import TINY_MODELS, make_model, with_layers

from lplan.planner.footprint import Footprint
from lplan.planner.host import host_peaks
from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Recipe
from lplan.planner.tracing.model import build, make_config
from lplan.planner.tracing.objective import Objective
from lplan.planner.tracing.trace import trace, trace_whole
from lplan.profiles.errors import UsageError

SHAPE = Shape(batch=3, seq=37, supervised=80, chunk=32)
ON_GPU: dict[str, Any] = {"device": "cuda", "kernel": "efficient", "allocator": "default", "accumulation": 1}
LAYERS = 9
HIDDEN_BYTES = SHAPE.batch * SHAPE.seq * 64 * 2
"""One layer's input in bf16: what a checkpoint keeps."""


def gpu(**knobs: Any) -> Recipe:
    return Recipe(**{**ON_GPU, **knobs}).graph()


def traced(recipe: Recipe, layers: int = LAYERS) -> Footprint:
    return trace(with_layers("llama", layers), recipe, SHAPE)


def travels(footprint: Footprint, kind: str = "micro") -> int:
    return footprint.work[f"{kind} transfer"].at(SHAPE.values(), footprint.extra_units)


def live(footprint: Footprint) -> int:
    return sum(footprint.peak("steady step", SHAPE).values())


@pytest.mark.parametrize(("checkpointing", "kept"), [("full", LAYERS), ("every-2", 5)])
def test_checkpoints_are_the_inputs_of_the_layers_that_are_recomputed(checkpointing: str, kept: int) -> None:
    footprint = traced(gpu(checkpointing=checkpointing, offload=("checkpoints",)))
    assert travels(footprint) == 2 * kept * HIDDEN_BYTES
    host = host_peaks(footprint, SHAPE)["steady step"]
    assert (host.pinned_bytes, host.pageable_bytes) == (kept * 2**14, 0)  # 14,208 bytes take 16 KiB


def test_what_is_saved_for_backward_travels_there_and_back() -> None:
    """Counted by torch's own hooks around a real step on the CPU."""
    knobs: dict[str, Any] = {"attention": "eager", "padding": "none", "dropout": 0.0}
    footprint = trace(TINY_MODELS["llama"], gpu(offload=("activations",), **knobs), SHAPE)
    recipe, saved = Recipe(accumulation=1, **knobs), []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel() * tensor.element_size())
        return tensor

    ids = torch.randint(3, 250, (SHAPE.batch, SHAPE.seq))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        Objective("full")(make_model(TINY_MODELS["llama"], recipe), {"input_ids": ids, "labels": ids})
    assert travels(footprint) == 2 * sum(saved)
    peak = host_peaks(footprint, SHAPE)["steady step"].pinned_bytes
    assert peak == sum(1 << (size - 1).bit_length() for size in saved if size)


def test_weights_come_for_every_forward_pass() -> None:
    config = with_layers("llama", LAYERS)
    with torch.device("meta"):
        model = build(make_config(config), gpu())
    sizes = {name: parameter.nbytes for name, parameter in model.named_parameters()}
    layers = sum(size for name, size in sizes.items() if ".layers." in name)
    footprint = traced(gpu(checkpointing="full", offload=("weights",)))
    assert travels(footprint) == sum(sizes.values()) + layers  # the layers once more, to be recomputed
    assert host_peaks(footprint, SHAPE)["steady step"].pageable_bytes == sum(sizes.values())
    assert footprint.peak("steady step", SHAPE)["weights"] < sum(sizes.values()) / 3


def test_the_optimizer_runs_on_the_host() -> None:
    """torchao: a pinned copy and a pinned gradient of parameters from 4,096 elements on; states beside them."""
    config = with_layers("llama", LAYERS)
    footprint = traced(gpu(method="full", clipping=False, offload=("optimizer",)))
    with torch.device("meta"):
        sizes = [p.numel() for p in build(make_config(config), gpu()).parameters()]
    large, small = [n for n in sizes if n >= 4096], [n for n in sizes if n < 4096]
    host = host_peaks(footprint, SHAPE)["steady step"]
    assert host.pinned_bytes == sum(2 * (1 << (2 * n - 1).bit_length()) for n in large)
    assert host.pageable_bytes == sum(2 * 2 * n + 4 for n in large)
    assert footprint.peak("steady step", SHAPE)["optimizer"] == sum(2 * 2 * n + 4 for n in small)
    assert travels(footprint, "optimizer") == sum(2 * 2 * n for n in large)


@pytest.mark.parametrize(
    "knobs",
    [
        {"offload": ("activations",)},
        {"offload": ("activations",), "checkpointing": "every-2"},
        {"offload": ("checkpoints", "weights"), "checkpointing": "full", "loss": "chunked"},
        {"offload": ("activations", "optimizer"), "method": "full", "clipping": False},
    ],
    ids=str,
)
def test_a_few_layers_tell_of_many(knobs: dict[str, Any]) -> None:
    recipe = gpu(**knobs)
    few, whole = traced(recipe, 12), trace_whole(with_layers("llama", 12), recipe, SHAPE)
    assert few.traced_layers < 12
    assert {phase: few.peak(phase, SHAPE) for phase in few.phases} == {
        phase: whole.peak(phase, SHAPE) for phase in whole.phases
    }
    assert host_peaks(few, SHAPE) == host_peaks(whole, SHAPE)


@pytest.mark.parametrize(
    ("knobs", "why"),
    [
        ({"offload": ("checkpoints",)}, "no checkpoints"),
        ({"offload": ("activations", "checkpoints"), "checkpointing": "full"}, "among the activations"),
        ({"offload": ("optimizer",)}, "before they could be clipped"),
        ({"offload": ("optimizer",), "clipping": False, "optimizer": "sgd"}, "is AdamW"),
        ({"offload": ("optimizer",), "clipping": False, "precision": "fp16-amp"}, "unscaled"),
        ({"offload": ("weights",)}, "no saved tensor may keep them"),
        ({"offload": ("weights",), "method": "full", "checkpointing": "full"}, "must be frozen"),
        ({"offload": ("pages",)}, "cannot be offloaded"),
    ],
)
def test_what_cannot_be_offloaded_together(knobs: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        gpu(**knobs)
