"""How fast this CPU multiplies matrices at the shapes of a model's linears, and what share of it training reaches.

`python -m benchmarks.gemm_limit [--model FOLDER] [--tokens N]` from the repository's root; without a model, at two
shapes: 576 x 1536 (SmolLM2-135M) and 2048 x 5632 (TinyLlama), the widest linears of their layers.

A LoRA step multiplies a linear's weights twice: in the forward pass, and for the gradient of its input. Weight
gradients are those of the adapters alone (under 1 % of the work at rank 8, not counted; neither is attention).
So it takes 4 N FLOP a token, and 6 N when all is computed again in the backward pass, with N the elements of
all weights that are multiplied: the head counts, also when it is tied; the embedding, a look-up, doesn't.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from .machine_info import store

Shape: TypeAlias = tuple[int, int]
"""Width in, width out."""

WIDEST: Mapping[Shape, int] = {(576, 1536): 1, (2048, 5632): 1}
DTYPES = ("float32", "bfloat16")
TOKENS = 512
THREADS = 2
WARM_UP = 3


def linear_shapes(config: Mapping[str, Any]) -> Counter[Shape]:
    """How often each shape is multiplied in a dense model, the head included. `config` is that of config.json."""
    values = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **values))
    shapes: Counter[Shape] = Counter()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            shapes[module.in_features, module.out_features] += 1
        elif isinstance(module, Conv1D):
            shapes[module.nx, module.nf] += 1
    return shapes


def matmul_parameters(config: Mapping[str, Any]) -> int:
    """Elements of all weights that every token is multiplied with."""
    return sum(count * wide * out for (wide, out), count in linear_shapes(config).items())


def lora_step_flop(config: Mapping[str, Any], tokens: int, *, recompute: bool = False) -> int:
    """FLOP of a LoRA step over `tokens` tokens; with `recompute`, under checkpointing of everything."""
    return _per_parameter(recompute) * matmul_parameters(config) * tokens


def share_of_limit(tokens_per_s: float, parameters: int, recompute: bool, limit: float) -> float:
    """The share of `limit` (FLOP/s) that training at `tokens_per_s` needs; `parameters`: `matmul_parameters`.

    To compare what is learned, leave `recompute` False on both sides: only then is a token the same work.
    """
    return tokens_per_s * _per_parameter(recompute) * parameters / limit


def gemm_limit(
    shapes: Mapping[Shape, int],
    dtype: str,
    *,
    tokens: int = TOKENS,
    threads: int = THREADS,
    repeats: int = 30,
) -> float:
    """FLOP/s over both multiplications of every shape, each as often as it occurs, by median times."""
    flop, seconds = 0, 0.0
    with _threads(threads):
        for (wide, out), count in shapes.items():
            flop += count * 4 * wide * out * tokens
            seconds += count * _pair_s(wide, out, tokens, getattr(torch, dtype), repeats)
    return flop / seconds


def _per_parameter(recompute: bool) -> int:
    return 6 if recompute else 4


def _pair_s(wide: int, out: int, tokens: int, dtype: torch.dtype, repeats: int) -> float:
    """Seconds of a linear's forward pass and of the gradient of its input."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(out, wide, generator=generator).to(dtype)
    features = torch.randn(tokens, wide, generator=generator).to(dtype)
    gradient = torch.randn(tokens, out, generator=generator).to(dtype)
    return _median_s(lambda: F.linear(features, weight), repeats) + _median_s(
        lambda: gradient @ weight, repeats
    )


def _median_s(work: Callable[[], object], repeats: int) -> float:
    for _ in range(WARM_UP):
        work()
    times = []
    for _ in range(repeats):
        began_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - began_s)
    return statistics.median(times)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, help="a folder with config.json: all its linears")
    parser.add_argument(
        "--tokens", type=int, default=TOKENS, help="rows of every product (default %(default)s)"
    )
    options = parser.parse_args()
    shapes = WIDEST
    if options.model:
        shapes = linear_shapes(json.loads((options.model / "config.json").read_text(encoding="utf-8")))
    rows = [
        {"width_in": wide, "width_out": out, "tokens": options.tokens, "dtype": dtype, "threads": THREADS,
         "flop_per_s": gemm_limit({(wide, out): 1}, dtype, tokens=options.tokens)}
        for wide, out in shapes
        for dtype in DTYPES
    ]  # fmt: skip
    view = Table("shape", *DTYPES, title=f"GFLOP/s, {options.tokens} tokens, {THREADS} threads")
    for wide, out in shapes:
        of_shape = [row["flop_per_s"] for row in rows if (row["width_in"], row["width_out"]) == (wide, out)]
        view.add_row(f"{wide} × {out}", *(f"{rate / 1e9:.0f}" for rate in of_shape))
    console = Console()
    console.print(view)
    if not options.model:
        console.print(f"stored in {store('gemm_limit', rows)}")


if __name__ == "__main__":
    main()
