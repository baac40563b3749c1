"""Stand-ins for gptqmodel's linears over GPTQ and AWQ checkpoints: the same storages, without the package or a GPU.

Sources (gptqmodel): nn_modules/qlinear/__init__.py for what is stored; nn_modules/qlinear/torch.py for GPTQ, whose
Triton kernel too trains by it; quantization/awq/modules/linear/gemm.py for AWQ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ...profiles.errors import UsageError
from ..recipe import Recipe
from .adapters import stacked_parameters
from .quantized import QuantizedLinear, cast_the_rest, replaceable

_WORD_BITS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """How a checkpoint's linears are packed: `bits` a weight, a scale and a zero point for every `group_size` inputs
    (-1: for all). `left_out`: parts of the names of linears that are not packed."""

    method: Literal["gptq", "awq"]
    bits: int
    group_size: int
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, quantization_config: Mapping[str, Any]) -> Packing:
        """That of a config.json's `quantization_config`."""
        return cls(
            method=quantization_config["quant_method"],
            bits=int(quantization_config.get("bits", quantization_config.get("w_bit", 4))),
            group_size=int(
                quantization_config.get("group_size", quantization_config.get("q_group_size", 128))
            ),
            left_out=tuple(quantization_config.get("modules_to_not_convert") or ()),
        )

    def groups(self, inputs: int) -> int:
        """Of a linear with so many inputs."""
        return 1 if self.group_size < 1 else -(-inputs // self.group_size)


class PackedLinear(QuantizedLinear):
    """A linear that is in the checkpoint as integers of 32 bits; its weight exists in the input's dtype while it is
    used, and where autograd keeps it for backward."""

    on_load = False
    anew: ClassVar[bool] = False
    """Whether GPTQ's weight is made once more in backward, as AutoGPTQ's kernel does, instead of kept."""

    def __init__(self, linear: nn.Linear, packing: Packing, dtype: torch.dtype) -> None:
        self.packing = packing
        super().__init__(linear, packing.method, dtype)
        if linear.bias is not None:
            del self.bias
            self.register_buffer(
                "bias", torch.empty_like(linear.bias, dtype=torch.float16, requires_grad=False)
            )

    def _packed(self, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        packing, inputs, outputs = self.packing, self.in_features, self.out_features

        def words(count: int) -> int:
            return -(-count * packing.bits // _WORD_BITS)

        groups = packing.groups(inputs)
        size = (words(inputs), outputs) if packing.method == "gptq" else (inputs, words(outputs))
        yield "weight", torch.empty(size, dtype=torch.int32, device=device)
        yield "zeros", torch.empty(groups, words(outputs), dtype=torch.int32, device=device)
        yield "scales", torch.empty(groups, outputs, dtype=torch.float16, device=device)
        if packing.method == "gptq":
            yield "groups", torch.empty(inputs, dtype=torch.int32, device=device)

    def dequantize(self) -> Tensor:
        """The weight (in, out), in the scales' fp16."""
        return torch.empty(
            self.in_features,
            self.out_features,
            dtype=torch.float16,
            device=self.weight.device,  # type: ignore[arg-type]
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(..., in) to (..., out), in the input's dtype."""
        return self._gptq(input) if self.packing.method == "gptq" else self._awq(input)

    def _gptq(self, input: Tensor) -> Tensor:  # noqa: A002
        rows = input.reshape(-1, self.in_features)
        multiply = _Anew.apply if self.anew else _kept
        output = multiply(rows, self)
        output = output.reshape(*input.shape[:-1], self.out_features)
        if self.bias is not None:
            output = output.add_(self.bias)
        return output.to(input.dtype)

    def _awq(self, input: Tensor) -> Tensor:  # noqa: A002
        """Computes in fp16 alone."""
        output = _Awq.apply(input.to(torch.float16), self)
        return output.to(input.dtype)  # type: ignore[no-any-return]


def _kept(rows: Tensor, layer: PackedLinear) -> Tensor:
    """By autograd itself, which keeps the weight where the input has a gradient."""
    return torch.matmul(rows, layer.dequantize().to(rows.dtype))


class _Anew(torch.autograd.Function):
    """auto_gptq's triton_utils/dequant.py, `QuantLinearFunction`: of the input nothing is kept."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, layer: PackedLinear) -> Tensor:
        ctx.layer = layer
        return torch.matmul(rows, layer.dequantize().to(rows.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.matmul(gradient, ctx.layer.dequantize().to(gradient.dtype).t()), None


class _Awq(torch.autograd.Function):
    """`WQLinearMMFunction`: keeps its input, and in backward copies the weight for every sequence of the batch."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: PackedLinear) -> Tensor:  # noqa: A002
        ctx.save_for_backward(input)
        ctx.layer = layer
        output = torch.matmul(input, layer.dequantize())
        return output if layer.bias is None else output + layer.bias

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        weight = ctx.layer.dequantize().to(gradient.dtype)
        copies = weight.transpose(0, 1).unsqueeze(0).repeat(gradient.shape[0], 1, 1)
        return gradient.bmm(copies), None


def pack(model: nn.Module, recipe: Recipe) -> None:
    """Replace the linears of a wrapped model that its checkpoint has packed, and prepare the rest as PEFT's
    `prepare_model_for_kbit_training` does, if the recipe says so: over GPTQ it casts nothing.

    Raises UsageError for stacked experts, which gptqmodel packs one by one.
    """
    packing = Packing.of(model.config.packed_as)  # type: ignore[union-attr,arg-type]
    if stacked := stacked_parameters(model):
        raise UsageError(
            f"{packing.method.upper()} weights of stacked experts are not priced: {', '.join(sorted(stacked))}",
            hint="take the checkpoint that was packed, with --quantization nf4",
        )
    dtype = getattr(torch, recipe.weights_dtype)
    for path, parent, name, child in replaceable(model):
        if not any(part in f"{path}.{name}" for part in packing.left_out):
            setattr(parent, name, PackedLinear(child, packing, dtype))
    _adapt(model)
    if recipe.kbit_preparation and packing.method != "gptq":
        cast_the_rest(model)


def _adapt(model: nn.Module) -> None:
    """Give PEFT's wrappers the forward pass that they have around gptqmodel's linears."""
    from peft.tuners.lora.awq import AwqLoraLinear
    from peft.tuners.lora.gptq import GPTQLoraLinear
    from peft.tuners.lora.layer import Linear

    class AroundGptq(Linear):
        forward = GPTQLoraLinear.forward

    class AroundAwq(Linear):
        forward = AwqLoraLinear.forward

    around: Mapping[str, type[Linear]] = {"gptq": AroundGptq, "awq": AroundAwq}
    for module in model.modules():
        if type(module) is Linear and isinstance(module.base_layer, PackedLinear):
            module.__class__ = around[module.base_layer.quantization]
            object.__setattr__(module, "quant_linear_module", module.base_layer)
