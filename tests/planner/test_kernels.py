"""Which attention kernel a GPU runs, after torch's sdp_utils.cpp, and what is refused."""

from __future__ import annotations

import pytest

from lplan.planner.kernels import on_gpu
from lplan.planner.recipe import Recipe
from lplan.profiles.errors import UsageError
from lplan.profiles.named import find_hardware

GROUPED = {"hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 4}
PLAIN = {"hidden_size": 2048, "num_attention_heads": 32}
WIDE = {"hidden_size": 4096, "num_attention_heads": 8}


def kernel(machine, config, **knobs):
    usual = {"device": "cuda", "kernel": "math", "allocator": "default", "precision": "fp16", **knobs}
    return on_gpu(Recipe(**usual), find_hardware(machine).gpus[0], config).kernel


@pytest.mark.parametrize(
    ("machine", "config", "knobs", "expected"),
    [
        ("t4", PLAIN, {"padding": "none"}, "efficient"),
        ("t4", GROUPED, {"padding": "padded"}, "efficient"),
        ("t4", GROUPED, {"padding": "none"}, "math"),
        ("a100-80gb", GROUPED, {"padding": "none"}, "flash"),
        ("a100-80gb", GROUPED, {"padding": "padded"}, "efficient"),
        ("a100-80gb", PLAIN, {"padding": "none", "precision": "fp32"}, "efficient"),
        ("a100-80gb", PLAIN, {"padding": "none", "precision": "bf16-amp"}, "flash"),
        ("a100-80gb", WIDE, {"padding": "none"}, "efficient"),
        ("a100-80gb", PLAIN, {"padding": "padded", "attention": "flash"}, "flash"),
        ("rtx-4090", GROUPED, {"padding": "none"}, "flash"),
        ("h100", GROUPED, {"padding": "none"}, "cudnn"),
    ],
)
def test_the_kernel(machine, config, knobs, expected):
    assert kernel(machine, config, **knobs) == expected


@pytest.mark.parametrize(
    ("machine", "knobs", "why"),
    [
        ("t4", {"precision": "bf16"}, "has no bf16"),
        ("v100-16gb", {"precision": "bf16-amp"}, "has no bf16"),
        ("t4", {"attention": "flash"}, "needs compute capability 8.0"),
    ],
)
def test_what_a_gpu_cannot(machine, knobs, why):
    with pytest.raises(UsageError, match=why) as caught:
        kernel(machine, PLAIN, **knobs)
    assert caught.value.hint
