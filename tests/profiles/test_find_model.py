"""What a name means, in which order, and what is said of one that means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants
from model_files import write_config

from lplan.profiles.errors import LplanError, UsageError
from lplan.profiles.find import find_model


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, no network, and a working folder of one's own."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


def test_a_folder_goes_before_an_alias() -> None:
    write_config(Path("tinyllama"))
    profile = find_model("tinyllama")
    assert (profile.alias, profile.location, profile.config["hidden_size"]) == (None, Path("tinyllama"), 32)


def test_a_folder_that_is_no_model_does_not_hide_an_alias() -> None:
    Path("tinyllama").mkdir()
    assert find_model("tinyllama").alias == "tinyllama"


def test_a_folder_goes_before_a_hub_id() -> None:
    write_config(Path("models/mine"))
    assert find_model("models/mine").location == Path("models/mine")


@pytest.mark.parametrize("name", [".", "./", "~/model"])
def test_folders_as_people_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_config(tmp_path, tie_word_embeddings=True)
    write_config(tmp_path / "model", tie_word_embeddings=True)
    profile = find_model(name)
    assert profile.id == ("model" if "model" in name else tmp_path.name)


@pytest.mark.parametrize("name", ["gpt2", "GPT2", "openai-community/gpt2", "OpenAI-Community/GPT2"])
def test_the_catalogue_in_any_case(name: str) -> None:
    assert find_model(name).id == "openai-community/gpt2"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("tinylama", "tinyllama"),
        ("tiny-llama", "tinyllama"),
        ("llama-3.1", "llama-3.1-8b"),
        ("Mistral-7B-v0.1", "mistral-7b"),
        ("qwen-2.5-7b", "qwen2.5-7b"),
        ("smollm-135m", "smollm2-135m"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"no model is called '{name}'") as caught:
        find_model(name)
    assert near in (caught.value.hint or "").replace("?", "").split()


@pytest.mark.parametrize("name", ["zzzzzzzz", "--", "%", "$(ls)", "a b"])
def test_a_name_that_resembles_nothing(name: str) -> None:
    with pytest.raises(UsageError, match="no model is called") as caught:
        find_model(name)
    assert "lplan models" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["", "  ", "\t"])
def test_an_empty_name_is_not_the_current_folder(tmp_path: Path, name: str) -> None:
    write_config(tmp_path)
    with pytest.raises(UsageError, match="name is empty"):
        find_model(name)


@pytest.mark.parametrize(
    "name",
    ["./nope", "/nowhere/at/all", "../nope", "a/b/c", "a\\b", "~/nope", "nope.gguf", "org/", "/", "org/../x"],
)
def test_a_path_that_does_not_lead_to_a_model(name: str) -> None:
    with pytest.raises(UsageError, match=r"there is no|has no config.json") as caught:
        find_model(name)
    assert "config.json" in (caught.value.hint or "") or "from_pretrained" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "~nobody-of-this-name/model"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    with pytest.raises(UsageError, match="cannot look for") as caught:
        find_model(name)
    assert len(str(caught.value)) < 200


def test_a_folder_without_configuration(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match=r"has no config.json"):
        find_model(str(tmp_path))


def test_an_adapter_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="is an adapter, not a model") as caught:
        find_model(str(tmp_path))
    assert "base model" in (caught.value.hint or "")


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    write_config(tmp_path)
    with pytest.raises(UsageError, match=r"config.json is not a model") as caught:
        find_model(str(tmp_path / "config.json"))
    assert "folder" in (caught.value.hint or "")


def test_every_error_is_one_line_with_a_hint(tmp_path: Path) -> None:
    for name in ("nope", "./nope", "org/nope", str(tmp_path), "x" * 5000):
        with pytest.raises(LplanError) as caught:
            find_model(name)
        assert caught.value.hint
        assert "\n" not in str(caught.value) + caught.value.hint
