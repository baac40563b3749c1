"""What comes besides a run, estimated and measured: in processes of their own, on models large enough to tell.

The range that every estimate states (2 %, at least 16 MB) is the tolerance; the parts that are told apart here,
private copies of merged weights, temporaries of the largest one, are 67 to 134 MB each.
"""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lplan.benchmarks.other_phases import merged_in_place, other_phases
from lplan.planner.recipe import ALL_LINEAR, Recipe
from lplan.profiles.find import find_model

LINEARS = ("gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """2 layers, of them 3 matrices of 8.4 M elements each; 134 MB in bf16 with an untied vocabulary of 4,000."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=1024, intermediate_size=8192, num_hidden_layers=2, num_attention_heads=8, vocab_size=4000
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("recipe", "targets"),
    [
        (Recipe(target_modules=LINEARS), list(LINEARS)),
        (Recipe(target_modules=("up_proj",), dora=True), ["up_proj"]),
        (Recipe(target_modules=ALL_LINEAR, precision="fp32"), "all-linear"),
    ],
    ids=["private copies and one delta", "dora", "converted"],
)
def test_merging_in_place_reaches_what_was_predicted(base, recipe, targets):
    libraries, measured = merged_in_place(base, recipe, targets)
    peak = other_phases(find_model(str(base)), recipe, libraries)["merge in place"].peak
    assert peak.low_bytes <= measured <= peak.high_bytes
