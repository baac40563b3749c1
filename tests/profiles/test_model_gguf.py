"""GGUF files against the gguf package that writes them and the transformers code that loads them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from lplan.profiles.errors import LplanError, UsageError
from lplan.profiles.find import find_model
from lplan.profiles.gguf_header import GGML_TYPES, read_gguf_header

SHAPES = {
    "token_embd.weight": (64, 32),
    "blk.0.attn_q.weight": (32, 32),
    "blk.0.attn_k.weight": (16, 32),
    "blk.0.ffn_down.weight": (32, 96),
    "output_norm.weight": (32,),
}
KEYS = {
    "context_length": 256,
    "block_count": 1,
    "feed_forward_length": 96,
    "embedding_length": 32,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "attention.key_length": 8,
    "rope.dimension_count": 8,
    "rope.freq_base": 500000.0,
}


def write_gguf(
    path: Path,
    architecture: str = "llama",
    *,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    keys: Mapping[str, Any] = KEYS,
    tokens: int = 64,
    also: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
) -> Path:
    """A file of float32 zeros, by the gguf package."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in keys.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{architecture}.{key}", value)
    writer.add_token_list([f"token {number}" for number in range(tokens)])
    writer.add_token_scores([0.5] * tokens)
    also(writer)
    for name, shape in shapes.items():
        writer.add_tensor(name, np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_types_are_those_of_the_package() -> None:
    ours = {number: (block, size) for number, (_, block, size) in GGML_TYPES.items()}
    assert {gguf.GGMLQuantizationType(number).name for number in ours} == {
        name for name, _, _ in GGML_TYPES.values()
    }
    assert ours == {number: gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(number)] for number in ours}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "stablelm"])
@pytest.mark.parametrize("has_head", [True, False])
def test_the_configuration_is_what_transformers_makes_of_the_file(
    tmp_path: Path, architecture: str, has_head: bool
) -> None:
    shapes = {**SHAPES, "output.weight": (64, 32)} if has_head else SHAPES
    path = write_gguf(tmp_path / "model.gguf", architecture, shapes=shapes)
    profile = find_model(str(path))
    theirs = load_gguf_checkpoint(str(path))["config"]
    assert {key: profile.config[key] for key in theirs} == theirs
    assert set(profile.config) == {*theirs, "architectures"}
    assert profile.config["tie_word_embeddings"] is not has_head
    assert profile.config["vocab_size"] == 64


def test_a_file_and_the_folder_around_it(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "Tiny.Q4.gguf")
    for name in (path, tmp_path):
        profile = find_model(str(name))
        assert (profile.id, profile.location, profile.weights.format) == ("Tiny.Q4", path, "gguf")
        assert profile.architecture == "LlamaForCausalLM"
        assert profile.parameters == 64 * 32 + 32 * 32 + 16 * 32 + 32 * 96 + 32
        assert profile.weights.total_bytes == path.stat().st_size
        assert profile.weights.dtype == "F32"


def test_the_type_that_takes_most_bytes_is_named(tmp_path: Path) -> None:
    def quantized(writer: gguf.GGUFWriter) -> None:
        blocks = gguf.quantize(np.zeros((1024, 256), np.float32), gguf.GGMLQuantizationType.Q4_0)
        writer.add_tensor("output.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q4_0)

    profile = find_model(str(write_gguf(tmp_path / "model.gguf", also=quantized)))
    assert profile.weights.dtype == "Q4_0"
    assert profile.parameters == 1024 * 256 + 64 * 32 + 32 * 32 + 16 * 32 + 32 * 96 + 32


def test_header_agrees_with_the_package_reader(tmp_path: Path) -> None:
    def every_kind(writer: gguf.GGUFWriter) -> None:
        writer.add_array("x.numbers", [1, 2, 3])
        writer.add_array("x.many", list(range(5000)))
        writer.add_array("x.nested", [["a", "b"], ["c"]])
        writer.add_bool("x.yes", True)
        writer.add_string("x.word", "Zürich")
        for kind, value in {"uint8": 200, "int8": -8, "uint16": 60000, "int16": -9, "int32": -10}.items():
            getattr(writer, f"add_{kind}")(f"x.{kind}", value)
        for kind, value in {"uint64": 2**40, "int64": -(2**40), "float64": 0.1}.items():
            getattr(writer, f"add_{kind}")(f"x.{kind}", value)

    path = write_gguf(tmp_path / "model.gguf", also=every_kind)
    ours, theirs = read_gguf_header(path), gguf.GGUFReader(path)
    for key, value in ours.metadata.items():
        assert theirs.fields[key].contents() == value, key
    assert ours.lengths == {
        "tokenizer.ggml.tokens": 64,
        "tokenizer.ggml.scores": 64,
        "x.numbers": 3,
        "x.many": 5000,
        "x.nested": 2,
    }
    assert ours.metadata["x.numbers"] == [1, 2, 3]
    assert "x.many" not in ours.metadata
    assert [(t.name, t.type, t.elements, t.stored_bytes) for t in ours.tensors] == [
        (t.name, t.tensor_type.name, t.n_elements, t.n_bytes) for t in theirs.tensors
    ]


def test_rope_factors_are_no_parameters(tmp_path: Path) -> None:
    plain = find_model(str(write_gguf(tmp_path / "a" / "model.gguf"))).parameters
    shapes = {**SHAPES, "rope_freqs.weight": (4,)}
    assert find_model(str(write_gguf(tmp_path / "b" / "model.gguf", shapes=shapes))).parameters == plain


def test_an_architecture_that_transformers_cannot_load(tmp_path: Path) -> None:
    with pytest.raises(LplanError, match="cannot load GGUF files of architecture 'rwkv9'") as caught:
        find_model(str(write_gguf(tmp_path / "model.gguf", "rwkv9")))
    assert caught.value.hint


def test_an_encoder_decoder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no causal language model"):
        find_model(str(write_gguf(tmp_path / "model.gguf", "t5")))


def test_a_file_without_needed_keys(tmp_path: Path) -> None:
    keys = {key: value for key, value in KEYS.items() if key != "embedding_length"}
    with pytest.raises(LplanError, match="lacks hidden_size"):
        find_model(str(write_gguf(tmp_path / "model.gguf", keys=keys)))


def test_a_part_of_a_split_model(tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "model-00001-of-00003.gguf", also=lambda writer: writer.add_uint16("split.count", 3)
    )
    with pytest.raises(LplanError, match="one part of a split GGUF model") as caught:
        find_model(str(path))
    assert "merge" in (caught.value.hint or "")


def test_a_folder_of_several_files(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        write_gguf(tmp_path / name)
    with pytest.raises(UsageError, match="holds 2 GGUF files") as caught:
        find_model(str(tmp_path))
    assert "a.gguf" in (caught.value.hint or "")


def gguf_head(tensors: int, keys: int, rest: bytes = b"", *, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", ""),
        (b"PK\x03\x04", "does not start with GGUF"),
        (b"GGUF", "header is broken"),
        (gguf_head(0, 0, version=1), "of version 1"),
        (gguf_head(0, 0, version=2**24 * 3), "of version"),
        (gguf_head(2**60, 1), "claims"),
        (gguf_head(0, 2**60), "claims"),
        (gguf_head(0, 1, struct.pack("<Q", 2**63)), "cut short inside its header"),
        (gguf_head(0, 1, struct.pack("<Q1sI", 1, b"k", 77)), "header is broken"),
        (gguf_head(0, 1, struct.pack("<Q1sIIQ", 1, b"k", 9, 4, 2**61)), "cut short"),
        (gguf_head(0, 1, struct.pack("<Q1sIIQ", 1, b"k", 9, 8, 2**61)), "broken"),
        (gguf_head(0, 1, struct.pack("<Q1sI", 1, b"k", 9) + struct.pack("<IQ", 9, 1) * 5000), "broken"),
        (gguf_head(1, 0, struct.pack("<Q1sI", 1, b"t", 2**31)), "dimensions"),
        (gguf_head(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 8, 99, 0)), "broken"),
        (gguf_head(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 2**62, 0, 0)), "cut short at"),
    ],
)
def test_a_file_that_is_no_gguf(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(LplanError, match=f"not a sound GGUF file: .*{why}") as caught:
        find_model(str(path))
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.99])
def test_a_file_that_was_cut_short(tmp_path: Path, share: float) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(LplanError, match="not a sound GGUF file"):
        find_model(str(path))
