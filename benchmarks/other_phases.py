"""Measures what comes besides a run, in a process of its own: merging as PEFT does it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from os import environ
from pathlib import Path
from typing import Any

from lplan.planner.allocator import environment_of
from lplan.planner.estimate import PhaseEstimate
from lplan.planner.estimating import Situation, make_estimate, shape_of
from lplan.planner.other_phases import with_other_phases
from lplan.planner.recipe import Recipe
from lplan.planner.runtime import Baseline
from lplan.planner.tracer import footprint
from lplan.planner.versions import stack_versions
from lplan.profiles.budget import decide_budget
from lplan.profiles.machine import this_machine
from lplan.profiles.model import ModelProfile

_MERGE = """
import json, sys
import torch, transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer
from lplan.trainer.process_tree import reset_high_water, usage_of
base, output, dtype, targets, dora = sys.argv[1:]
libraries = usage_of("self")
model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype))
config = LoraConfig(r=8, target_modules=json.loads(targets), use_dora=dora == "True")
model = get_peft_model(model, config)
reset_high_water()
model.merge_and_unload().save_pretrained(output)
print(json.dumps([libraries.anonymous_bytes, libraries.file_bytes, usage_of("self").high_water_bytes]))
"""


def other_phases(model: ModelProfile, recipe: Recipe, libraries: Baseline) -> Mapping[str, PhaseEstimate]:
    """The estimates by phase, for a process that has `libraries` right after its imports."""
    hardware = this_machine()
    here = Situation(
        model=model, hardware=hardware, budget=decide_budget(hardware), baseline=libraries,
        versions=stack_versions(),
    )  # fmt: skip
    found = footprint(model, recipe, shape_of(recipe))
    estimate = with_other_phases(make_estimate(recipe, found, here), found, here)
    return {phase.name: phase for phase in estimate.other_phases}


def merged_in_place(base: Path, recipe: Recipe, targets: Any) -> tuple[Baseline, int]:
    """Load, wrap, merge, save: the libraries, and the highest resident set from the merging on, in bytes."""
    with tempfile.TemporaryDirectory(prefix="lplan-merge-") as output:
        command = [
            sys.executable, "-c", _MERGE, str(base), output, recipe.weights_dtype, json.dumps(targets),
            str(recipe.dora),
        ]  # fmt: skip
        run = subprocess.run(
            command, env={**environ, **environment_of("pinned", threads=1)}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
    anonymous, file, peak = json.loads(run.stdout.splitlines()[-1])
    return Baseline(anonymous_bytes=anonymous, file_bytes=file), peak
