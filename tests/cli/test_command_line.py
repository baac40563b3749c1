"""The command line as scripts and newcomers meet it: statuses, one line of error, one JSON document."""

import json
import os
import subprocess
import sys

import pytest

from lplan import cli
from lplan.planner.polynomial import Shape
from lplan.planner.recipe import Recipe
from lplan.planner.store import FootprintStore
from lplan.planner.tracer import footprint
from lplan.profiles.find import find_model


@pytest.fixture
def lplan(monkeypatch, capsys):
    """Runs a command in this process: status, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lplan", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as leaving:
            status = leaving.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A cache that holds the footprint of TinyLlama's default estimate."""
    folder = tmp_path_factory.mktemp("warm")
    shape = Shape(batch=2, seq=512, supervised=1024, chunk=128)
    model, store = find_model("tinyllama"), FootprintStore(folder)
    store.keep(model.config, Recipe(), footprint(model, Recipe(), shape, store))
    return folder


@pytest.fixture
def files(tmp_path):
    """Files that nothing can be done with."""
    for name, text in {
        "broken/config.json": "{",
        "t5/config.json": '{"model_type": "t5", "d_model": 64, "is_encoder_decoder": true}',
        "lacking/config.json": '{"model_type": "llama"}',
        "empty.csv": "text,category\n",
        "columns.csv": "a,b\n1,2\n",
        "plan.json": '{"schema": "lplan.plan/1"}',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


ESTIMATE = ("estimate", "--model", "tinyllama")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("estimate", "--model", "tinylama", "--ram", "8G"), 2, "did you mean tinyllama?"),
        (("estimate", "--model", "{files}/broken", "--ram", "8G"), 1, "not valid JSON"),
        (("estimate", "--model", "{files}/t5", "--ram", "8G"), 2, "no causal language model"),
        (("estimate", "--model", "{files}/lacking", "--ram", "8G"), 1, "lacks hidden_size"),
        ((*ESTIMATE, "--ram", "8X"), 2, "'8X' is not a size"),
        ((*ESTIMATE, "--ram", "0"), 2, "not a positive size"),
        ((*ESTIMATE, "--ram", "-1"), 2, "'-1' is not a size"),
        ((*ESTIMATE, "--ram", "100M"), 3, "less than the training libraries need"),
        ((*ESTIMATE, "--ram", "8G", "--rank", "0"), 2, "--rank"),
        ((*ESTIMATE, "--ram", "8G", "--precision", "fp16"), 2, "fp16"),
        ((*ESTIMATE, "--ram", "8G", "--quantization", "nf4"), 2, "4-bit"),
        ((*ESTIMATE, "--vram", "8G", "--precision", "bf16"), 2, "GPU"),
        ((*ESTIMATE, "--hardware", "cpu-8gp"), 2, "cpu-8gb"),
        ((*ESTIMATE, "--ram", "8G", "--foo"), 2, "--foo"),
        (("nonsense",), 2, "nonsense"),
        (("fit-and-train", "--ram", "8G"), 2, "--model"),
        (("fit-and-train", "--plan", "{files}/plan.json"), 1, "plan.json"),
        (("fit-and-train", "--plan", "{files}/none.json"), 2, "none.json"),
    ],
)
def test_what_cannot_be_is_one_line_and_a_hint(lplan, files, arguments, status, words):
    before = sorted(files.rglob("*"))
    found, out, err = lplan(*(argument.format(files=files) for argument in arguments))
    assert found == status
    assert out == ""
    lines = err.strip().splitlines()
    assert lines[0].startswith("error: ")
    assert [line for line in lines if line.startswith("hint: ")] == lines[1:]
    assert words in err
    assert "Traceback" not in err
    assert sorted(files.rglob("*")) == before


def test_estimate_prints_one_document_of_the_contract(lplan, warm, monkeypatch):
    monkeypatch.setenv("LPLAN_CACHE", str(warm))
    status, out, _ = lplan(*ESTIMATE, "--ram", "8G", "--json")
    document = json.loads(out)
    assert status == 0
    assert document["schema"] == "lplan.estimate/1"
    assert document["fits"] is True
    assert document["cuda"] is None
    assert document["model"]["trainable_parameters"] == 2_252_800
    assert document["hardware"]["budget_bytes"] == 8 * 2**30
    for phase in document["phases"]:
        assert sum(phase["components"].values()) == phase["peak"]["expected_bytes"]
        assert phase["anonymous_bytes"] + phase["file_bytes"] == phase["peak"]["expected_bytes"]
        assert phase["peak"]["low_bytes"] <= phase["peak"]["expected_bytes"] <= phase["peak"]["high_bytes"]


def test_what_does_not_fit_leaves_with_status_three(lplan, warm, monkeypatch):
    monkeypatch.setenv("LPLAN_CACHE", str(warm))
    status, out, _ = lplan(*ESTIMATE, "--ram", "3G", "--json")
    assert status == 3
    assert json.loads(out)["fits"] is False


def test_the_table_names_the_peak_and_the_verdict(lplan, warm, monkeypatch):
    monkeypatch.setenv("LPLAN_CACHE", str(warm))
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = lplan(*ESTIMATE, "--ram", "8G")
    assert status == 0
    assert "fits:" in out
    assert "2,252,800 trainable" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("command", ["models", "doctor"])
def test_listings_have_documents_too(lplan, command):
    status, out, err = lplan(command, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["schema"] == f"lplan.{command}/1"
    assert lplan(command)[0] == 0


def test_a_cached_estimate_imports_no_framework(warm):
    code = (
        "import sys; sys.argv = ['lplan', 'estimate', '--model', 'tinyllama', '--ram', '8G', '--json']\n"
        "from lplan.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers', 'peft', 'numpy'} & sys.modules.keys()), file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "LPLAN_CACHE": str(warm)},
    )
    assert run.stderr.strip() == "[]"
    assert json.loads(run.stdout)["fits"] is True


def test_the_list_of_commands_says_whole_sentences_at_80_columns(lplan, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = lplan("--help")
    said = out.partition("Commands:")[2].splitlines()[1:]
    assert status == 0
    assert len(said) == len(cli.every_command())
    assert all(line.endswith(".") and not line.endswith("...") for line in said)
