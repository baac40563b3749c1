"""Bad input: the right exit status, one line of error, a hint, nothing on stdout, nothing left behind."""

import json
import re

import pytest
from command_line import CONFIG

from lplan.profiles.gpu import GpuSearch

ESTIMATE = ("estimate", "--model", "tinyllama", "--ram", "8G")


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["bogus"], "No such command 'bogus'", "`lplan --help`"),
        (["--bogus"], "No such option '--bogus'", "`lplan --help`"),
        (["estimate"], "Missing option '--model'", "`lplan estimate --help`"),
        ([*ESTIMATE, "--wrong"], "No such option '--wrong'", "`lplan estimate --help`"),
        ([*ESTIMATE, "too much"], "unexpected extra argument", "`lplan estimate --help`"),
        ([*ESTIMATE, "--rank"], "Option '--rank' requires an argument", "`lplan estimate --help`"),
        ([*ESTIMATE, "--precision", "fp8"], "'fp8' is not one of 'fp32', 'bf16'", "`lplan estimate --help`"),
        ([*ESTIMATE, "--optimizer", "sophia"], "'sophia' is not one of", "`lplan estimate --help`"),
        ([*ESTIMATE, "--optimizer", "lion"], "kernels for GPUs", "adafactor"),
        ([*ESTIMATE, "--checkpointing", "every-1"], "checkpointing cannot be 'every-1'", "N >= 2"),
        ([*ESTIMATE, "--checkpointing", "some"], "checkpointing cannot be 'some'", "none, full, every-N"),
        ([*ESTIMATE, "--target-modules", ","], "names nothing", "all-linear"),
        ([*ESTIMATE, "--batch-size", "4", "--effective-batch", "6"], "no multiple of the micro batch", "divisor"),
        ([*ESTIMATE, "--method", "qlora"], "slower and no smaller in practice on a CPU", "--hardware t4"),
        ([*ESTIMATE, "--precision", "fp16"], "CPUs compute bf16 or fp32", "bf16-amp"),
        ([*ESTIMATE, "--quantization", "nf4"], "slower and no smaller in practice on a CPU", "--quantization none"),
        ([*ESTIMATE, "--offload", "weights"], "from a GPU to host memory", "leave it out"),
        (["plan", *ESTIMATE[1:], "--data", "demo", "--task", "banking7"], "no task called 'banking7'", "banking77"),
        (["fit-and-train"], "needs --model and --data, or --plan", "--data demo"),
        (["fit-and-train", "--model", "tinyllama"], "needs --model and --data", "--data demo"),
        (["fit-and-train", "--data", "demo"], "needs --model and --data", "--data demo"),
    ],
)  # fmt: skip
def test_wrong_usage(lplan, words, error, hint):
    message, advice = lplan(*words).refused(2)
    assert error in message
    assert hint in advice


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *((flag, "0") for flag in ("--rank", "--alpha", "--batch-size", "--effective-batch", "--seq-len", "--threads")),
        *((flag, "-1") for flag in ("--rank", "--batch-size", "--seq-len", "--threads")),
        *((flag, "1.5") for flag in ("--rank", "--batch-size")),
        *((flag, "many") for flag in ("--rank", "--dropout")),
        *(("--dropout", value) for value in ("-0.1", "1", "2", "nan", "inf")),
        ("--threads", "1000000"),
    ],
)  # fmt: skip
def test_nonsense_numbers(lplan, flag, value):
    message, _ = lplan(*ESTIMATE, f"{flag}={value}").refused(2)
    assert f"Invalid value for '{flag}'" in message
    assert value.lstrip("-") in message


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--epochs", "0"), ("--epochs", "-1"), ("--epochs", "inf"), ("--epochs", "nan"), ("--max-steps", "0"),
        ("--learning-rate", "0"), ("--learning-rate", "-1e-4"), ("--learning-rate", "nan"),
        ("--warmup-steps", "-1"), ("--seed", "-1"), ("--seed", "4294967296"),
    ],
)  # fmt: skip
def test_a_nonsense_schedule(lplan, flag, value):
    words = ("plan", "--model", "tinyllama", "--ram", "8G", f"{flag}={value}")
    assert f"Invalid value for '{flag}'" in lplan(*words).refused(2)[0]


@pytest.mark.parametrize("flag", ["--ram", "--vram"])
@pytest.mark.parametrize(
    "size", ["8X", "0", "-1", "-8G", "0G", "eight", "", "G", "8GG", "1e3G", "nan", "0.4"]
)
def test_nonsense_sizes(lplan, flag, size):
    message, hint = lplan("estimate", "--model", "tinyllama", f"{flag}={size}").refused(2)
    assert re.fullmatch(rf"{flag}: '{re.escape(size)}' is not a (positive )?size", message)
    assert "8G" in hint


@pytest.mark.parametrize("command", ["estimate", "plan"])
def test_a_budget_below_what_the_libraries_need_does_not_fit(lplan, traced, command):
    message, hint = lplan(command, "--model", "tinyllama", "--ram", "200M").refused(3)
    assert re.search(r"0\.20 GiB is less than the training libraries need .* \(0\.3\d GiB\)", message)
    assert "come on top" in hint
    assert traced == []


def test_gpus_are_not_trained_on_yet(lplan):
    words = ("fit-and-train", "--model", "tinyllama", "--data", "demo", "--hardware", "t4")
    message, hint = lplan(*words).refused(2)
    assert message == "no GPU here for --hardware t4"
    assert "--ram SIZE" in hint


@pytest.mark.parametrize(
    "words", [("doctor", "--vram", "8G"), ("fit-and-train", "--model", "x", "--data", "demo", "--vram", "8G")]
)
def test_gpu_memory_without_a_gpu(lplan, monkeypatch, words):
    for room in ("machine", "budget"):
        monkeypatch.setattr(f"lplan.profiles.{room}.find_gpus", lambda: GpuSearch(gpus=(), reason="none"))
    message, hint = lplan(*words).refused(2)
    assert message == "no GPU here for --vram"
    assert "--ram SIZE" in hint


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("--ram", "8G", "--vram", "8G"), "exclude each other", "CPU"),
        (("--hardware", "cpu-8bg"), "no machine is called 'cpu-8bg'", "cpu-8gb"),
        (("--hardware", "cpu-8gb", "--vram", "8G"), "has no GPU for --vram", "--ram SIZE"),
        (("--hardware", "t4", "--ram", "8G"), "which --ram does not bound", "--vram SIZE"),
    ],
)
def test_machines_that_contradict_the_sizes(lplan, words, error, hint):
    message, advice = lplan("estimate", "--model", "tinyllama", *words).refused(2)
    assert error in message
    assert hint in advice


@pytest.mark.parametrize(
    ("name", "status", "error", "hint"),
    [
        ("tinylama", 2, "no model is called 'tinylama'", "tinyllama"),
        ("zzzz", 2, "no model is called 'zzzz'", "`lplan models`"),
        ("", 2, "name is empty", "`lplan models`"),
        ("./nowhere", 2, "there is no ./nowhere", "config.json"),
        ("nobody/nothing", 1, "is not in the hub cache", "config.json"),
    ],
)
def test_an_unknown_model(lplan, name, status, error, hint):
    message, advice = lplan("estimate", "--model", name, "--ram", "8G").refused(status)
    assert error in message
    assert hint in advice


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ("{", 1, "is not valid JSON"),
        ("[]", 1, "is not a JSON object"),
        ({"model_type": None}, 1, "lacks model_type"),
        ({"hidden_size": None}, 1, "lacks hidden_size"),
        ({"num_hidden_layers": 0}, 1, "num_hidden_layers is 0, not a positive whole number"),
        ({"vocab_size": "many"}, 1, "vocab_size"),
        ({"is_encoder_decoder": True}, 2, "is no causal language model"),
        ({"model_type": "vit"}, 2, "is no causal language model"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, 2, "it is a BertForMaskedLM"),
        ({"architectures": ["LlamaForSequenceClassification"]}, 2, "is no causal language model"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}, 2, "own Python code"),
    ],
)
def test_a_model_folder_that_cannot_be_trained(lplan, tmp_path, change, status, error):
    folder = tmp_path / "broken"
    folder.mkdir()
    text = change if isinstance(change, str) else json.dumps({**CONFIG, **change})
    (folder / "config.json").write_text(text)
    for command in ("estimate", "plan"):
        assert error in lplan(command, "--model", folder, "--ram", "8G").refused(status)[0]
