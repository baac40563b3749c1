"""Exported files read by the programs they are for, where these are installed (`make test-exports`).

Nothing is said in a key that the program does not know, and what it makes of the values is the plan.
"""

from __future__ import annotations

import made_up
import pytest
import yaml
from exported_plans import RECIPES, SCHEDULE, planned

from lplan.planner.export.arguments import training_arguments
from lplan.planner.export.job import ExportJob
from lplan.planner.export.targets import export_plan

A100 = {"bf16": True, "fp8": False, "tf32": True, "n_gpu": 1, "n_node": 1, "compute_capability": "sm_80"}
each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))


@pytest.fixture(autouse=True)
def _installed(monkeypatch, tmp_path):
    made_up.install(monkeypatch, tmp_path / "cache")


@each_recipe
def test_axolotl_takes_every_value_as_it_is(recipe):
    schema = pytest.importorskip("axolotl.utils.schemas.config").AxolotlConfigWCapabilities
    data = yaml.safe_load(export_plan(planned(recipe), "axolotl").text)
    assert set(data) <= set(schema.model_fields)
    versions = {"torch_version": "2.13.0"}
    taken = schema(**data, capabilities=A100, env_capabilities=versions).model_dump(exclude_none=True)
    assert {name: taken.get(name) for name in data if name != "datasets"} == {
        name: value for name, value in data.items() if name != "datasets"
    }
    kernels = [name for name in taken if name.endswith("_kernel") and taken[name]]
    assert kernels == []


@pytest.fixture
def llama_factory(monkeypatch):
    """Its parser. It asks for a transformers that is older than ours."""
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    return pytest.importorskip("llamafactory.hparams").get_train_args


@each_recipe
def test_llama_factory_reads_the_plan(recipe, llama_factory, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    data = yaml.safe_load(export_plan(planned(recipe), "llama-factory").text)
    if data.get("pure_bf16"):
        pytest.skip("it asks a GPU for bf16")
    model, _, training, tuning, _ = llama_factory({**data, "use_cpu": True})
    assert tuning.finetuning_type == ("full" if recipe.method == "full" else "lora")
    if recipe.adapts:
        found = (tuning.lora_rank, tuning.lora_alpha, tuning.lora_dropout, tuning.use_dora, tuning.use_rslora)
        assert found == (recipe.rank, recipe.alpha, recipe.dropout, recipe.dora, recipe.rslora)
    bits = {"none": None, "int8": 8}.get(recipe.quantization, 4)
    assert model.quantization_bit == bits
    if bits == 4:
        found = (model.quantization_type, model.double_quantization)
        assert found == (recipe.quantization[:3], recipe.quantization.endswith("-dq"))
    assert (training.bf16, training.fp16) == (
        recipe.precision.startswith("bf16"),
        recipe.precision.startswith("fp16"),
    )
    assert model.disable_gradient_checkpointing == (recipe.checkpoint_period == 0)
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (
        recipe.batch_size,
        recipe.accumulation,
    )
    assert (training.learning_rate, training.warmup_steps, training.max_grad_norm, training.seed) == (
        SCHEDULE.learning_rate,
        SCHEDULE.warmup_steps,
        SCHEDULE.max_grad_norm,
        SCHEDULE.seed,
    )


@each_recipe
def test_the_trainer_takes_deepspeeds_file_beside_the_script_or_it_is_said(recipe, tmp_path):
    pytest.importorskip("deepspeed")
    from transformers import TrainingArguments
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    plan = planned(recipe)
    exported = export_plan(plan, "deepspeed")
    file = tmp_path / "deepspeed.json"
    file.write_text(exported.text)
    script = training_arguments(ExportJob(plan=plan, modules=()))
    # the look for a GPU, and for Liger's package, is not what is tested
    here = {"use_cpu": True, "use_liger_kernel": False, "output_dir": str(tmp_path)}
    config = HfTrainerDeepSpeedConfig(str(file))
    config.trainer_config_process(TrainingArguments(**{**script, **here}))
    refused = [line for line in config.mismatches if "bf16.enabled" in line]
    assert config.mismatches == refused
    assert bool(refused) == ("bf16=True" in exported.unsaid.get("precision", ""))
    with_it = {**script, **here, "bf16": True} if refused else {**script, **here}
    config = HfTrainerDeepSpeedConfig(str(file))
    config.trainer_config_process(TrainingArguments(**with_it))
    assert config.mismatches == []


@each_recipe
def test_deepspeed_loads_its_file(recipe, tmp_path):
    read = pytest.importorskip("deepspeed.runtime.config").DeepSpeedConfig
    file = tmp_path / "deepspeed.json"
    file.write_text(export_plan(planned(recipe), "deepspeed").text)
    config = read(str(file))
    assert (config.train_micro_batch_size_per_gpu, config.gradient_accumulation_steps) == (
        recipe.batch_size,
        recipe.accumulation,
    )
    assert config.train_batch_size == recipe.effective_batch
    assert config.bfloat16_config.enabled == recipe.precision.startswith("bf16")
    assert config.float16_config.enabled == recipe.precision.startswith("fp16")
    assert config.gradient_clipping == SCHEDULE.max_grad_norm
