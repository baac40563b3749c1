"""A CUDA process beside its tensors: context, workspaces, rates. Data from cuda.toml."""

from __future__ import annotations

from ..profiles.errors import UsageError
from ..profiles.hardware import Gpu
from .constants import constants
from .footprint import Footprint
from .rates import Rates
from .recipe import Recipe
from .simulation import Surroundings


def context_bytes(gpu: Gpu) -> int:
    """What the driver and the libraries take of the device."""
    row = constants("cuda")["context"]
    measured = row["measured_bytes"].get(gpu.name)
    if measured:
        return int(measured)
    threads = (gpu.multiprocessors or 0) * row["threads_by_capability"].get(
        _name(gpu.capability), row["threads"]
    )
    return int(row["base_bytes"] + threads * row["thread_bytes"])


def workspace_bytes(gpu: Gpu) -> int:
    """What a cuBLAS handle takes of the caching allocator."""
    row = constants("cuda")["workspace"]
    return int(row["bytes_by_capability"].get(_name(gpu.capability), row["default_bytes"]))


def surroundings(recipe: Recipe, footprint: Footprint, gpu: Gpu) -> Surroundings:
    """What PyTorch allocates on this GPU besides the recipe's own tensors."""
    quantized = recipe.quantization != "none"
    untied = recipe.init == "random" and footprint.shared_head
    return Surroundings(
        workspace_bytes=workspace_bytes(gpu),
        warm_up=quantized or (recipe.loop == "trainer" and recipe.init == "pretrained"),
        untied_bytes=footprint.embedding_bytes if untied else 0,
        clears_cache=quantized and recipe.kbit_preparation and recipe.quantization != "gptq",
    )


def _name(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def gpu_rates(gpu: Gpu) -> Rates:
    """How fast a GPU is: the maker's figures times the shares of them that T4 runs reached.

    Raises UsageError for a GPU whose figures are not known.
    """
    half, single, bandwidth = gpu.half_flop_per_s, gpu.float_flop_per_s, gpu.bandwidth_bytes_per_s
    if half is None or single is None or bandwidth is None:
        raise UsageError(
            f"nothing is known of the speed of {gpu.name}",
            hint="name it by --hardware; `lplan estimate` needs no speed",
        )
    share = constants("cuda")["rates"]
    fast, slow = half * share["half_matmul"], single * share["float_matmul"]
    return Rates(
        matmul_flop_per_s={
            dtype: {_ANY_SIZE: {_ANY_SIZE: rate}}
            for dtype, rate in (("float16", fast), ("bfloat16", fast), ("float32", slow))
        },
        attention_flop_per_s={
            **dict.fromkeys(("float16", "bfloat16"), half * share["half_attention"]),
            "float32": single * share["float_attention"],
        },
        tf32_flop_per_s=fast / _HALF_TO_TF32,
        traffic_bytes_per_s=bandwidth * share["bandwidth"],
        transfer_bytes_per_s=_transfer_bytes_per_s(gpu),
        random_elements_per_s=bandwidth * share["bandwidth"],
        op_s=share["op_s"],
        overlaps=True,
    )


def _transfer_bytes_per_s(gpu: Gpu) -> float:
    """Between pinned host memory and the device, one way."""
    row = constants("cuda")["transfer"]
    rows = {tuple(map(int, name.split("."))): rate for name, rate in row["bytes_per_s_by_capability"].items()}
    known = max((capability for capability in rows if capability <= gpu.capability), default=min(rows))
    return float(row["share"] * rows[known])


_ANY_SIZE = 1
_HALF_TO_TF32 = 2
"""NVIDIA's tables (A100 whitepaper, table 3; Ada, Hopper, Blackwell alike): 16-bit products are twice as fast."""
