"""A folder as a model: what its weight files tell, and how broken ones are named."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from model_files import TINY, TINY_PARAMETERS, write_config, write_index, write_tensors
from transformers import AutoConfig, AutoModelForCausalLM

from lplan.profiles.errors import LplanError
from lplan.profiles.find import find_model
from lplan.profiles.safetensors_header import DTYPE_BITS, DTYPE_NAMES, read_header

INDEX = "model.safetensors.index.json"


def save(folder: Path, *, dtype: str = "bfloat16", shard: str = "5GB", **changes: Any) -> int:
    """A real model of `TINY`'s shape, saved by transformers; its parameters."""
    config = AutoConfig.for_model(**{**TINY, "dtype": dtype, **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=config.dtype)
    model.save_pretrained(folder, max_shard_size=shard)
    return int(model.num_parameters())


@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 2), ("float16", 2), ("float32", 4)])
@pytest.mark.parametrize("tied", [True, False])
def test_one_file(tmp_path: Path, dtype: str, size: int, tied: bool) -> None:
    parameters = save(tmp_path, dtype=dtype, tie_word_embeddings=tied)
    profile = find_model(str(tmp_path))
    assert parameters == TINY_PARAMETERS - tied * 128 * 32
    assert profile.parameters == parameters
    assert (profile.weights.format, profile.weights.dtype) == ("safetensors", dtype)
    assert profile.weights.total_bytes == (tmp_path / "model.safetensors").stat().st_size
    assert 0 < profile.weights.total_bytes - parameters * size < 8192
    assert (profile.id, profile.location) == (tmp_path.name, tmp_path)
    assert (profile.architecture, profile.model_type) == ("LlamaForCausalLM", "llama")
    assert profile.config == json.loads((tmp_path / "config.json").read_text())


def test_shards_in_the_order_they_are_loaded(tmp_path: Path) -> None:
    parameters = save(tmp_path, shard="20KB")
    files = sorted(tmp_path.glob("model-*.safetensors"))
    profile = find_model(str(tmp_path))
    assert len(files) > 2
    assert profile.parameters == parameters
    assert profile.weights.shard_bytes == tuple(file.stat().st_size for file in files)
    assert profile.weights.total_bytes == sum(profile.weights.shard_bytes)


def test_one_file_goes_before_shards_and_safetensors_before_pickle(tmp_path: Path) -> None:
    write_config(tmp_path)
    write_index(tmp_path, {"x": "model-00001-of-00001.safetensors"})
    write_tensors(tmp_path / "model.safetensors", {"x": (4, 4)}, "float16")
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    assert find_model(str(tmp_path)).weights.dtype == "float16"


def test_no_weights(tmp_path: Path) -> None:
    profile = find_model(str(write_config(tmp_path)))
    assert (profile.weights.format, profile.weights.dtype) == ("none", "bfloat16")
    assert (profile.weights.total_bytes, profile.parameters) == (0, None)


def test_pickled_weights_are_measured_and_never_opened(tmp_path: Path) -> None:
    marker = tmp_path / "unpickled"
    payload = f"cos\nmkdir\n(S'{marker}'\ntR.".encode()
    (write_config(tmp_path, dtype="float16") / "pytorch_model.bin").write_bytes(payload)
    profile = find_model(str(tmp_path))
    assert (profile.weights.format, profile.weights.dtype) == ("pickle", "float16")
    assert (profile.weights.total_bytes, profile.parameters) == (len(payload), None)
    assert not marker.exists()
    pickle.loads(payload)
    assert marker.exists()


def test_pickled_shards(tmp_path: Path) -> None:
    write_config(tmp_path)
    for number, size in ((1, 10), (2, 7)):
        (tmp_path / f"pytorch_model-0000{number}-of-00002.bin").write_bytes(b"0" * size)
    names = {letter: f"pytorch_model-0000{number}-of-00002.bin" for letter, number in (("a", 2), ("b", 1))}
    write_index(tmp_path, names, "pytorch_model.bin.index.json")
    assert find_model(str(tmp_path)).weights.shard_bytes == (10, 7)


def test_buffers_and_the_copy_of_a_tied_head_are_no_parameters(tmp_path: Path) -> None:
    shapes = {
        "model.embed_tokens.weight": (10, 4),
        "lm_head.weight": (10, 4),
        "h.0.attn.bias": (1, 1, 8, 8),
        "gpt_neox.layers.0.attention.masked_bias": (),
        "model.layers.0.self_attn.rotary_emb.inv_freq": (16,),
        "h.0.attn.c_attn.bias": (12,),
    }
    write_tensors(write_config(tmp_path, tie_word_embeddings=True) / "model.safetensors", shapes)
    assert find_model(str(tmp_path)).parameters == 10 * 4 + 12
    write_config(tmp_path, tie_word_embeddings=False)
    assert find_model(str(tmp_path)).parameters == 2 * 10 * 4 + 12


@pytest.mark.parametrize(("method", "dtype"), [("mxfp4", "mxfp4"), ("bitsandbytes", "uint8")])
def test_quantized_weights_have_a_size_but_no_count(tmp_path: Path, method: str, dtype: str) -> None:
    write_config(tmp_path, quantization_config={"quant_method": method})
    write_tensors(tmp_path / "model.safetensors", {"blocks": (64, 16)}, "uint8")
    profile = find_model(str(tmp_path))
    assert (profile.weights.dtype, profile.parameters) == (dtype, None)


@pytest.mark.parametrize(
    "name",
    ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..\\model.safetensors", "c:x.safetensors",
     "model.py", "", 7, None, "x\0.safetensors"],
)  # fmt: skip
def test_an_index_may_only_name_files_beside_it(tmp_path: Path, name: Any) -> None:
    write_tensors(tmp_path / "model.safetensors", {"x": (1,)})
    folder = write_index(write_config(tmp_path / "model"), {"x": name})
    with pytest.raises(LplanError, match="not a file of its own folder") as caught:
        find_model(str(folder))
    assert caught.value.hint


@pytest.mark.parametrize("index", [[], "x", {}, {"weight_map": []}, {"weight_map": {"x": ["y"]}}])
def test_a_broken_index(tmp_path: Path, index: Any) -> None:
    (write_config(tmp_path) / INDEX).write_text(json.dumps(index))
    with pytest.raises(LplanError, match="is not an index of weights"):
        find_model(str(tmp_path))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    save(tmp_path, shard="20KB")
    (tmp_path / sorted(tmp_path.glob("model-*"))[1].name).unlink()
    with pytest.raises(LplanError, match=r"model-00002-of-\d+.safetensors is missing"):
        find_model(str(tmp_path))


def header_file(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> None:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((b"",), "header is not JSON"),
        ((b"{}", b"", 2**63), "cut short"),
        ((b"{}", b"", 3), "cut short"),
        ((b"not json",), "header is not JSON"),
        ((b"[]",), "not a JSON object"),
        ((b'{"x": 1}',), "entry for 'x' is broken"),
        ((b'{"x": {"dtype": "F32"}}',), "entry for 'x' is broken"),
        ((json.dumps({"x": {**ENTRY, "dtype": "F31"}}).encode(), bytes(8)), "entry for 'x' is broken"),
        ((json.dumps({"x": {**ENTRY, "shape": [3]}}).encode(), bytes(8)), "'x' contradict"),
        ((json.dumps({"x": {**ENTRY, "shape": [-2]}}).encode(), bytes(8)), "'x' contradict"),
        ((json.dumps({"x": {**ENTRY, "shape": ["2"]}}).encode(), bytes(8)), "'x' (contradict|is broken)"),
        ((json.dumps({"x": ENTRY}).encode(), bytes(7)), "describes 8 bytes of data, 7 are there"),
        ((json.dumps({"x": ENTRY}).encode(), bytes(9)), "holds 1 bytes that its header does not describe"),
    ],
)
def test_a_corrupt_safetensors_header(tmp_path: Path, content: tuple[Any, ...], message: str) -> None:
    header_file(write_config(tmp_path) / "model.safetensors", *content)
    with pytest.raises(LplanError, match=f"not a sound safetensors file: .*{message}") as caught:
        find_model(str(tmp_path))
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_a_safetensors_file_that_was_cut_short(tmp_path: Path, kept: int) -> None:
    save(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(LplanError, match="not a sound safetensors file"):
        find_model(str(tmp_path))


def test_an_absurdly_long_header_is_not_read(tmp_path: Path) -> None:
    file = write_config(tmp_path) / "model.safetensors"
    with file.open("wb") as sparse:
        sparse.write(struct.pack("<Q", 2**30))
        sparse.truncate(2**31)
    with pytest.raises(LplanError, match="its header would be 1,073,741,824 bytes long"):
        find_model(str(tmp_path))


def test_every_torch_dtype_reads_as_itself(tmp_path: Path) -> None:
    import torch

    for name in sorted(set(DTYPE_NAMES.values()) - {"float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"}):
        tensor = next(iter(read_header(write_tensors(tmp_path / f"{name}.safetensors", {"x": (8,)}, name))))
        assert (tensor.dtype, tensor.elements) == (name, 8)
        assert DTYPE_BITS[name] == getattr(torch, name).itemsize * 8
