"""Running the command line inside the test's process, and what it needs: a tiny model folder, data files."""

from __future__ import annotations

import csv
import json
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lplan import cli
from lplan.trainer.data.readers import read_examples
from lplan.trainer.data.tokenizer_training import train_tokenizer

CONTEXT = 256
CONFIG: Mapping[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 600,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "dtype": "bfloat16",
}

Tree = Mapping[str, bytes | None]


@dataclass(frozen=True)
class Result:
    """How a command ended, what it said, and the files around it before and after."""

    status: int
    out: str
    err: str
    before: Tree
    after: Tree

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    def refused(self, status: int) -> tuple[str, str]:
        """Error and hint of a command that said nothing else and left nothing behind."""
        assert (self.status, self.out) == (status, ""), self.err
        assert self.after == self.before
        assert len(self.err.splitlines()) == 2
        return self.complaint()

    def complaint(self) -> tuple[str, str]:
        """The error and the hint on stderr, after whatever else was said there."""
        error, hint = self.err.splitlines()[-2:]
        assert self.err.count("error: ") == self.err.count("hint: ") == 1
        assert error.startswith("error: ")
        assert hint.startswith("hint: ")
        assert "Traceback" not in self.err
        return error.removeprefix("error: "), hint.removeprefix("hint: ")


class CommandLine:
    """`lplan` with a folder around it whose files are looked at; a folder called cache does not count."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys

    def __call__(self, *words: object) -> Result:
        self._monkeypatch.setattr(sys, "argv", ["lplan", *map(str, words)])
        self._capsys.readouterr()
        before = files_below(self.folder)
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        said = self._capsys.readouterr()
        return Result(status, said.out, said.err, before, files_below(self.folder))


def files_below(folder: Path) -> Tree:
    """Every file and folder with its content."""
    found = (path for path in folder.rglob("*") if "cache" not in path.parts)
    return {str(path): path.read_bytes() if path.is_file() else None for path in found}


def make_model(folder: Path) -> Path:
    """A model folder with a real tokenizer and a real, if small, safetensors file."""
    demo = read_examples("demo", task=None)
    train_tokenizer([m.content for e in demo.train for m in e.messages[1:]], 600, folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_safetensors(folder / "model.safetensors", (600, 32))
    return folder


def write_safetensors(file: Path, shape: tuple[int, int]) -> None:
    """One bf16 tensor of zeros (https://github.com/huggingface/safetensors#format)."""
    data_bytes = 2 * shape[0] * shape[1]
    entry = {"dtype": "BF16", "shape": list(shape), "data_offsets": [0, data_bytes]}
    header = json.dumps({"model.embed_tokens.weight": entry}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(data_bytes))


def write_csv(
    file: Path, rows: Sequence[Sequence[str]], columns: Sequence[str] = ("prompt", "response")
) -> Path:
    """A data file."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return file


QUESTIONS = [(f"What is {n} plus {n}, please?", f"It is {2 * n}.") for n in range(40)]
"""Rows of a data file, more than enough to train on."""
