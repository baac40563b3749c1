"""What a plan can be written as."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...profiles.errors import UsageError
from ..estimating import shape_of
from ..plan import Plan
from ..tracer import footprint
from .axolotl import axolotl_yaml
from .job import ExportJob
from .launching import accelerate_yaml, deepspeed_json, environment
from .llama_factory import llama_factory_yaml
from .scripts import hf_script, sft_script

Writer = Callable[[ExportJob], tuple[str, dict[str, str]]]

TARGETS: Mapping[str, Writer] = {
    "hf-script": hf_script,
    "sft-script": sft_script,
    "accelerate": accelerate_yaml,
    "deepspeed": deepspeed_json,
    "axolotl": axolotl_yaml,
    "llama-factory": llama_factory_yaml,
    "env": environment,
}
_BITSANDBYTES_ALONE = frozenset(("axolotl", "llama-factory"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """A file's text, and what it leaves out or takes otherwise than planned, by knob."""

    target: str
    text: str
    unsaid: Mapping[str, str]


def export_plan(plan: Plan, target: str) -> Exported:
    """A plan as `target`, a key of TARGETS. The model is traced for the names of its linears, unless it was.

    Raises UsageError for a plan that the target cannot run.
    """
    recipe = plan.recipe
    if target in _BITSANDBYTES_ALONE and recipe.quantization != "none" and recipe.device == "cpu":
        raise UsageError(
            f"{target} quantizes by bitsandbytes, for GPUs: it has no word for torchao's int8 on a CPU",
            hint="take --to hf-script or sft-script, or plan with --quantization none",
        )
    found = footprint(plan.estimate.model, recipe, shape_of(recipe))
    text, unsaid = TARGETS[target](ExportJob(plan=plan, modules=tuple(found.target_modules)))
    return Exported(target=target, text=text, unsaid=unsaid)
