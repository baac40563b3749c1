"""Plans as other programs' files: read again they are the plan, but for what the files say that they lack."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import made_up
import pytest
import yaml
from exported_plans import RECIPES, SCHEDULE, planned

from lplan.planner.allocator import environment_of
from lplan.planner.export.targets import TARGETS, export_plan
from lplan.planner.foreign.formats import read_foreign
from lplan.planner.recipe import Recipe
from lplan.planner.request import make_request
from lplan.profiles.errors import UsageError
from lplan.profiles.named import find_hardware

MODULES = ("self_attn.q_proj", "self_attn.v_proj")
INT8_ON_A_CPU = Recipe(method="qlora", quantization="int8", precision="bf16-amp")
MADE_IN_MEMORY = Recipe(init="random", loss="chunked", input_casting=False)


@pytest.fixture(autouse=True)
def _installed(monkeypatch, tmp_path):
    made_up.install(monkeypatch, tmp_path)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
@pytest.mark.parametrize("target", ["axolotl", "llama-factory"])
def test_read_again_it_is_the_plan_but_for_what_it_says(target, recipe, tmp_path):
    exported = export_plan(planned(recipe), target)
    file = tmp_path / "config.yml"
    file.write_text(exported.text)
    reading = read_foreign(file)
    assert reading.not_understood == {}
    assert reading.model == "made-up"
    machine = find_hardware("a100-80gb") if recipe.device == "cuda" else made_up.HARDWARE
    again = make_request(reading.asked, machine, device=recipe.device)
    expected, found = recipe.to_dict(), again.recipe.to_dict()
    if recipe.target_modules == ("attention",):
        expected["target_modules"] = list(MODULES)
    beside = {"device", "kernel", "head_ratio", "threads", "supervised_len", "padding", "allocator", "loop"}
    if not recipe.adapts:
        beside |= {"rank", "alpha", "dropout", "target_modules"}
    if recipe.quantization == "none":
        beside.add("kbit_preparation")
    different = {knob for knob in expected if expected[knob] != found[knob]} - beside
    assert different <= set(exported.unsaid)
    assert again.schedule == replace(SCHEDULE, max_steps=None)


@pytest.mark.parametrize("target", ["hf-script", "sft-script", "axolotl", "llama-factory"])
def test_rows_that_are_packed_are_not_lost_in_silence(target):
    recipe = replace(RECIPES["usual"], padding="packed")
    assert "packed" in export_plan(planned(recipe), target).unsaid["padding"]


def test_gradients_that_are_not_clipped_are_not_clipped():
    recipe = replace(RECIPES["usual"], clipping=False)
    assert "max_grad_norm: 0.0" in export_plan(planned(recipe), "axolotl").text


@pytest.mark.parametrize("target", ["axolotl", "llama-factory"])
def test_usual_plans_are_said_whole(target):
    # The pinned allocator is an environment, which the file's head gives.
    exported = export_plan(planned(RECIPES["usual"]), target)
    assert set(exported.unsaid) == {"allocator"}
    assert "MALLOC_TRIM_THRESHOLD_=131072" in exported.text


@pytest.mark.parametrize("target", ["axolotl", "llama-factory"])
def test_packed_rows_are_not_said_and_no_clipping_is(target):
    exported = export_plan(planned(replace(RECIPES["usual"], padding="packed", clipping=False)), target)
    assert "padding" in exported.unsaid
    assert yaml.safe_load(exported.text)["max_grad_norm"] == 0.0


@pytest.mark.parametrize(
    ("name", "target", "unsaid"),
    [
        ("every other layer", "axolotl", {"checkpointing", "loss", "input_casting", "allocator"}),
        ("every other layer", "hf-script", set()),
        ("every other layer", "sft-script", {"loss", "input_casting"}),
        ("16-bit adapters", "hf-script", {"optimizer"}),
        ("DoRA", "hf-script", set()),
        ("DoRA", "llama-factory", {"rank_pattern", "allocator"}),
        ("DoRA", "axolotl", {"allocator"}),
        ("copies", "axolotl", {"allocator"}),
        ("copies", "llama-factory", {"target_modules", "allocator"}),
        ("tokens and biases", "axolotl", {"bias", "allocator"}),
        ("tokens and biases", "hf-script", set()),
        ("experts", "axolotl", {"allocator"}),
        ("qlora", "axolotl", set()),
        ("qlora, prepared", "axolotl", {"quantization", "precision", "kbit_preparation"}),
        ("qlora", "llama-factory", set()),
    ],
)
def test_what_a_file_has_no_word_for_is_told(name, target, unsaid):
    exported = export_plan(planned(RECIPES[name]), target)
    assert set(exported.unsaid) == unsaid
    for knob in unsaid:
        assert f"Otherwise than planned: {knob.replace('_', ' ')}:" in exported.text


@pytest.mark.parametrize(
    ("name", "precision", "cpu"),
    [("usual", "no", True), ("autocast", "bf16", True), ("fp16", "fp16", False), ("8 bits", "fp16", False)],
)
def test_accelerate_loads_its_configuration(name, precision, cpu, tmp_path):
    config_args = pytest.importorskip("accelerate.commands.config.config_args")
    file = tmp_path / "accelerate.yml"
    file.write_text(export_plan(planned(RECIPES[name]), "accelerate").text)
    config = config_args.load_config_from_file(str(file))
    assert (config.mixed_precision, config.use_cpu, config.num_processes) == (precision, cpu, 1)
    assert config.distributed_type == "NO"


@pytest.mark.parametrize("name", ["whole", "fp16"])
def test_the_libraries_read_deepspeeds_configuration(name, tmp_path):
    deepspeed = pytest.importorskip("accelerate.utils.deepspeed")
    recipe = RECIPES[name]
    file = tmp_path / "deepspeed.json"
    file.write_text(export_plan(planned(recipe), "deepspeed").text)
    config = deepspeed.HfDeepSpeedConfig(str(file))
    assert not config.is_zero2()
    assert config.get_value("train_batch_size") == recipe.effective_batch
    assert config.get_value("train_micro_batch_size_per_gpu") == recipe.batch_size
    assert config.is_true("fp16.enabled") == (name == "fp16")
    assert json.loads(file.read_text())["gradient_clipping"] == 0.5


@pytest.mark.parametrize("name", ["usual", "16-bit adapters"])
def test_a_shell_takes_the_environment(name, tmp_path):
    recipe = RECIPES[name]
    file = tmp_path / "plan.env"
    file.write_text(export_plan(planned(recipe), "env").text)
    ended = subprocess.run(["sh", "-c", f". {file}; env"], env={}, capture_output=True, text=True, check=True)
    said = dict(line.split("=", 1) for line in ended.stdout.splitlines())
    expected = environment_of(recipe.allocator, threads=recipe.threads)
    assert {name: said.get(name) for name in expected} == expected
    assert ("MALLOC_TRIM_THRESHOLD_" in said) == (recipe.allocator == "pinned")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
@pytest.mark.parametrize("target", ["hf-script", "sft-script"])
def test_scripts_are_python_without_gaps(target, recipe):
    text = export_plan(planned(recipe, replace(SCHEDULE, max_steps=3)), target).text
    compile(text, target, "exec")
    assert "@@" not in text
    assert "'max_steps': 3" in text


def test_scripts_hold_what_they_use_and_no_more(tmp_path):
    for number, recipe in enumerate((*RECIPES.values(), INT8_ON_A_CPU, MADE_IN_MEMORY)):
        for target in ("hf-script", "sft-script"):
            (tmp_path / f"{target}-{number}.py").write_text(export_plan(planned(recipe), target).text)
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--preview",
        "--select",
        "F,E3,W",
        str(tmp_path),
    ]
    checked = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("target", ["axolotl", "llama-factory"])
def test_programs_without_torchao_get_no_plan_for_it(target):
    with pytest.raises(UsageError, match="no word for torchao's int8") as refused:
        export_plan(planned(INT8_ON_A_CPU), target)
    assert "hf-script" in refused.value.hint


def test_a_whole_model_in_bf16_on_a_cpu_is_not_llama_factorys():
    # hparams/parser.py: "This device does not support `pure_bf16`."
    exported = export_plan(planned(RECIPES["whole"]), "llama-factory")
    assert "pure_bf16" not in yaml.safe_load(exported.text)
    assert exported.unsaid["precision"] == "bf16 is planned, bf16-amp is what it takes"
    on_a_gpu = replace(RECIPES["whole"], device="cuda", kernel="flash", allocator="default")
    exported = export_plan(planned(on_a_gpu), "llama-factory")
    assert yaml.safe_load(exported.text)["pure_bf16"] is True
    assert "precision" not in exported.unsaid


def test_axolotl_is_told_to_leave_its_own_kernels_off():
    # schemas/config.py, `check_auto_enable_lora_kernels`: they are on unless one of them is given
    data = yaml.safe_load(export_plan(planned(RECIPES["qlora"]), "axolotl").text)
    assert {data[f"lora_{part}_kernel"] for part in ("mlp", "qkv", "o", "embedding")} == {False}


@pytest.mark.parametrize(
    "target", [name for name in TARGETS if name.endswith(("axolotl", "factory", "accelerate"))]
)
def test_yaml_is_plain_data(target):
    text = export_plan(planned(RECIPES["usual"]), target).text
    assert isinstance(yaml.safe_load(text), dict)
    assert text.startswith("# Planned by lplan for made-up")
