"""Models of the hub, through the real client: from a cache on disk, from a hub in miniature, and from none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_double import COMMIT, HubDouble, serving
from huggingface_hub import constants
from model_files import TINY, write_config, write_index, write_tensors

from lplan.profiles.catalogue import catalogue
from lplan.profiles.errors import LplanError, UsageError
from lplan.profiles.find import find_model

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens
SHAPES = {"model.embed_tokens.weight": (128, 32)}


def use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and a hub that cannot be reached."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    use_endpoint(monkeypatch, NOWHERE)
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubDouble]:
    with serving(HubDouble()) as double:
        use_endpoint(monkeypatch, double.url)
        yield double


def cached(cache: Path, repository: str, **config: Any) -> Path:
    """The snapshot folder of a repository in the cache, with its config.json."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    return write_config(folder / "snapshots" / COMMIT, **config)


@pytest.mark.usefixtures("offline")
def test_a_cached_model_is_found_offline(cache: Path) -> None:
    snapshot = cached(cache, "org/tiny")
    blob = write_tensors(cache / "models--org--tiny" / "blob", SHAPES)
    (snapshot / "model.safetensors").symlink_to(blob)
    profile = find_model("org/tiny")
    assert (profile.id, profile.alias, profile.location) == ("org/tiny", None, snapshot)
    assert profile.parameters == 128 * 32
    assert profile.weights.total_bytes == blob.stat().st_size
    assert profile.source == "https://huggingface.co/org/tiny"
    assert profile.config == TINY


@pytest.mark.usefixtures("offline")
def test_a_cached_configuration_without_weights(cache: Path) -> None:
    cached(cache, "org/tiny")
    profile = find_model("org/tiny")
    assert (profile.weights.format, profile.weights.dtype, profile.parameters) == ("none", "bfloat16", None)
    assert profile.location == "org/tiny"


def test_a_cached_configuration_serves_when_the_hub_is_away(cache: Path) -> None:
    cached(cache, "org/tiny")
    assert find_model("org/tiny").weights.format == "none"


def test_a_cached_model_is_not_asked_for_again(cache: Path, hub: HubDouble) -> None:
    write_tensors(cached(cache, "org/tiny") / "model.safetensors", SHAPES)
    assert find_model("org/tiny").parameters == 128 * 32
    assert hub.requests == []


@pytest.mark.parametrize("name", ["tinyllama", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"])
def test_the_catalogue_takes_files_from_the_cache(cache: Path, name: str) -> None:
    known = catalogue()["tinyllama"]
    snapshot = cached(cache, known.id)
    write_index(snapshot, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    write_tensors(snapshot / "model-00001-of-00002.safetensors", {"a": (8,)}, "float32")
    assert find_model(name).location is None, "one shard is still missing"
    write_tensors(snapshot / "model-00002-of-00002.safetensors", {"b": (8,)}, "float32")
    found = find_model(name)
    assert (found.location, found.alias, found.id) == (snapshot, "tinyllama", known.id)
    assert (found.parameters, found.checked) == (known.parameters, known.checked)
    assert (found.weights.dtype, len(found.weights.shard_bytes)) == ("float32", 2)


def test_the_catalogue_needs_no_cache_and_no_hub() -> None:
    found = find_model("tinyllama")
    assert found == catalogue()["tinyllama"]
    found.config["hidden_size"] = 0  # type: ignore[index]
    assert catalogue()["tinyllama"].config["hidden_size"] == 2048


def test_sizes_of_a_model_on_the_hub(hub: HubDouble, cache: Path) -> None:
    hub.config["org/tiny"] = TINY
    hub.info["org/tiny"] = {
        "siblings": [
            {"rfilename": "model-00002-of-00002.safetensors", "size": 30},
            {"rfilename": "model-00001-of-00002.safetensors", "size": 50},
            {"rfilename": "pytorch_model.bin", "size": 79},
            {"rfilename": "original/consolidated.safetensors", "size": 99},
        ],
        "safetensors": {"parameters": {"F16": 1000, "F32": 10, "U8": 64}, "total": 1074},
    }
    profile = find_model("org/tiny")
    assert profile.weights.shard_bytes == (50, 30)
    assert (profile.weights.total_bytes, profile.weights.dtype) == (80, "float16")
    assert (profile.parameters, profile.location, profile.id) == (1010, "org/tiny", "org/tiny")
    assert (cache / "models--org--tiny" / "snapshots" / COMMIT / "config.json").exists()


@pytest.mark.parametrize(
    ("files", "stored", "quantization", "expected"),
    [
        ({"pytorch_model.bin": 64}, None, None, ("pickle", "bfloat16", 64, None)),
        ({"model.safetensors": 9, "pytorch_model.bin": 8}, None, None, ("safetensors", "bfloat16", 9, None)),
        ({"model.safetensors": 9}, {"U8": 9}, "mxfp4", ("safetensors", "mxfp4", 9, None)),
        ({"model.safetensors": 9}, {"I8": 9}, "gptq", ("safetensors", "int8", 9, None)),
        ({"README.md": 9}, None, None, ("none", "bfloat16", 0, None)),
    ],
)
def test_other_files_on_the_hub(
    hub: HubDouble,
    files: dict[str, int],
    stored: dict[str, int] | None,
    quantization: str | None,
    expected: tuple[str, str, int, int | None],
) -> None:
    hub.config["org/tiny"] = {**TINY, "quantization_config": {"quant_method": quantization}}
    if quantization is None:
        hub.config["org/tiny"] = TINY
    hub.info["org/tiny"] = {"siblings": [{"rfilename": name, "size": size} for name, size in files.items()]}
    if stored:
        hub.info["org/tiny"] |= {"safetensors": {"parameters": stored, "total": sum(stored.values())}}
    profile = find_model("org/tiny")
    weights = profile.weights
    assert (weights.format, weights.dtype, weights.total_bytes, profile.parameters) == expected


@pytest.mark.parametrize(
    ("status", "code", "kind", "message", "hint"),
    [
        (404, "RepoNotFound", UsageError, "the hub has no model org/tiny", "org/name"),
        (401, "RepoNotFound", UsageError, "the hub has no model org/tiny", "org/name"),
        (403, "GatedRepo", LplanError, "org/tiny is gated", "hf auth login"),
        (503, "", LplanError, "the hub cannot be reached, and org/tiny is not in its cache", "folder"),
        (429, "", LplanError, "the hub cannot be reached, and org/tiny is not in its cache", "folder"),
        (418, "", LplanError, "the hub answered 418 when asked for org/tiny", "later"),
    ],
)
def test_a_hub_that_refuses(
    hub: HubDouble, status: int, code: str, kind: type[LplanError], message: str, hint: str
) -> None:
    hub.info["org/tiny"] = {"siblings": []}
    hub.refusals["org/tiny"] = (status, code)
    with pytest.raises(LplanError, match=message) as caught:
        find_model("org/tiny")
    assert type(caught.value).exit_code == kind.exit_code
    assert hint in (caught.value.hint or "")
    assert "\n" not in str(caught.value)


def test_a_misspelt_hub_id_is_answered_with_known_names(hub: HubDouble) -> None:
    with pytest.raises(UsageError, match=r"the hub has no model Qwen/Qwen2.5-7b-Instrukt") as caught:
        find_model("Qwen/Qwen2.5-7b-Instrukt")
    assert "qwen2.5-7b" in (caught.value.hint or "")


def test_a_repository_without_configuration(hub: HubDouble) -> None:
    hub.info["org/tiny-gguf"] = {"siblings": []}
    with pytest.raises(LplanError, match=r"org/tiny-gguf on the hub has no config.json") as caught:
        find_model("org/tiny-gguf")
    assert "GGUF" in (caught.value.hint or "")


def test_no_causal_language_model_on_the_hub(hub: HubDouble) -> None:
    hub.info["google/vit"] = {"siblings": []}
    hub.config["google/vit"] = {"model_type": "vit"}
    with pytest.raises(UsageError, match=r"config.json of google/vit is no causal language model"):
        find_model("google/vit")


def test_own_code_on_the_hub_needs_trust(hub: HubDouble) -> None:
    hub.info["org/own"] = {"siblings": []}
    hub.config["org/own"] = {**TINY, "model_type": "own", "auto_map": {"AutoConfig": "configuration.Own"}}
    with pytest.raises(
        UsageError, match=r"config.json of org/own needs the model's own Python code"
    ) as caught:
        find_model("org/own")
    assert "--trust-remote-code" in (caught.value.hint or "")
    assert find_model("org/own", trust_remote_code=True).trust_remote_code


def test_an_unreachable_hub() -> None:
    with pytest.raises(
        LplanError, match="the hub cannot be reached, and org/tiny is not in its cache"
    ) as caught:
        find_model("org/tiny")
    assert caught.value.exit_code == 1
    assert "config.json" in (caught.value.hint or "")


@pytest.mark.usefixtures("offline")
def test_offline_and_not_in_the_cache(hub: HubDouble) -> None:
    with pytest.raises(LplanError, match="org/tiny is not in the hub cache, and HF_HUB_OFFLINE is set"):
        find_model("org/tiny")
    assert hub.requests == []


@pytest.mark.usefixtures("offline")
def test_a_broken_cache_entry_is_not_taken_for_a_model(cache: Path) -> None:
    (cached(cache, "org/tiny") / "config.json").write_text("{")
    with pytest.raises(LplanError, match="not valid JSON"):
        find_model("org/tiny")
