"""Stand-ins for quantized linears: bitsandbytes' on a GPU, torchao's on a CPU; their storages without the packages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ...profiles.errors import UsageError
from ..recipe import Recipe
from .adapters import is_added

_BLOCK = 64
"""Weights that share a scale (bitsandbytes/functional.py, `quantize_4bit`)."""
_SCALE_BLOCK = 256
"""Scales that share a scale of their own under double quantization."""
_OUTLIERS_FROM = 6.0
"""transformers' BitsAndBytesConfig, `llm_int8_threshold`."""


class QuantizedLinear(nn.Module):
    """A linear whose weight (out, in) exists packed, and in `dtype` only while it is used."""

    W_q = None
    """HQQ's mark, by which PEFT's `dequantize_module_weight` knows a layer that dequantizes its weight itself."""
    on_load = True
    """Whether the weight is read in 16 bits, and packed then."""

    def __init__(self, linear: nn.Linear, quantization: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.quantization, self.dtype = quantization, dtype
        self.bias = linear.bias
        for name, tensor in self._packed(linear.weight.device):
            self.register_buffer(name, tensor)

    def _packed(self, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        count = self.in_features * self.out_features
        if self.quantization == "int8":
            yield "weight", torch.empty(self.out_features, self.in_features, dtype=torch.int8, device=device)
            yield "scales", torch.empty(self.out_features, dtype=torch.float32, device=device)
            return
        yield "weight", torch.empty((count + 1) // 2, 1, dtype=torch.uint8, device=device)
        blocks = -(-count // _BLOCK)
        double = self.quantization.endswith("-dq")
        yield "scales", torch.empty(blocks, dtype=torch.uint8 if double else torch.float32, device=device)
        yield "code", torch.empty(16, dtype=torch.float32, device=device)
        if double:
            yield "scales_of_scales", torch.empty(-(-blocks // _SCALE_BLOCK), device=device)
            yield "scale_code", torch.empty(256, device=device)
            yield "offset", torch.empty((), device=device)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(..., in) to (..., out), in the input's dtype."""
        if self.quantization == "int8":
            output = _Int8Product.apply(input, self)
        else:
            output = _Product.apply(input.to(self.dtype), self)
        if self.bias is not None:
            output = output + self.bias.to(output.dtype)
        return output.to(input.dtype)  # type: ignore[no-any-return]

    def dequantize(self) -> Tensor:
        """The weight in `dtype`; beside it, while it is made, fp32 scales where those are quantized too."""
        scales = self.scales.to(torch.float32) if self.quantization.endswith("-dq") else None
        weight = torch.empty(self.out_features, self.in_features, dtype=self.dtype, device=self.weight.device)  # type: ignore[arg-type]
        del scales
        return weight


class TorchaoLinear(QuantizedLinear):
    """A linear whose weight is torchao's Int8Tensor, quantized by rows and for weights only.

    Its product is no function of autograd's: the copy in the input's dtype is kept for backward, of every weight
    (torchao/quantization/quantize_/workflows/int8/int8_tensor.py, `linear`).
    """

    def _packed(self, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        rows = (self.out_features, 1)
        yield "weight", torch.empty(self.out_features, self.in_features, dtype=torch.int8, device=device)
        yield "scales", torch.empty(rows, dtype=torch.float32, device=device)
        yield "zero_points", torch.empty(rows, dtype=torch.int8, device=device)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(..., in) to (..., out), in the input's dtype."""
        weight: Tensor = self.weight  # type: ignore[assignment]
        scales: Tensor = self.scales  # type: ignore[assignment]
        product = torch.mm(input.reshape(-1, self.in_features), weight.t().to(input.dtype))
        output = product * scales.to(product.dtype).flatten()
        output = output.reshape(*input.shape[:-1], self.out_features)
        if self.bias is not None:
            output += self.bias
        return output.to(input.dtype)


class _Product(torch.autograd.Function):
    """MatMul4Bit (bitsandbytes/autograd/_functions.py): the weight is dequantized anew in both directions."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: QuantizedLinear) -> Tensor:  # noqa: A002
        ctx.layer = layer
        return torch.nn.functional.linear(input, layer.dequantize())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.matmul(gradient, ctx.layer.dequantize().to(gradient.dtype)), None


class _Int8Product(torch.autograd.Function):
    """MatMul8bitLt (bitsandbytes/autograd/_functions.py, and its CUDA ops): the input is quantized by rows from fp16,
    and kept for backward as it came, though only its dtype is asked for there; results are in that dtype."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: QuantizedLinear) -> Tensor:  # noqa: A002
        ctx.layer, ctx.kept = layer, input
        rows = input.reshape(-1, layer.in_features)
        quantized, scales = _quantized_rows(rows.to(torch.float16))
        product = torch.empty(rows.shape[0], layer.out_features, dtype=torch.int32, device=rows.device)
        output = torch.empty_like(product, dtype=torch.float16).to(input.dtype)
        del quantized, scales, product
        return output.reshape(*input.shape[:-1], layer.out_features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        dtype = ctx.kept.dtype
        return torch.matmul(gradient.to(dtype), ctx.layer.weight.to(dtype)), None


def _quantized_rows(half: Tensor) -> tuple[Tensor, Tensor]:
    """int8_vectorwise_quant, with the search for outliers that LLM.int8()'s threshold asks for."""
    scales = torch.empty(half.shape[0], dtype=torch.float32, device=half.device)
    quantized = torch.empty_like(half, dtype=torch.int8)
    torch.ge(half.abs(), _OUTLIERS_FROM)
    return quantized, scales


def quantize(model: nn.Module, recipe: Recipe) -> None:
    """Replace the linears that transformers hands to bitsandbytes or torchao (all but the output head) in a wrapped
    model, and prepare the rest as PEFT's `prepare_model_for_kbit_training` does, if the recipe says so: over torchao's
    weights it casts nothing."""
    dtype = getattr(torch, recipe.weights_dtype)
    kind = TorchaoLinear if recipe.device == "cpu" else QuantizedLinear
    for _, parent, name, child in replaceable(model):
        setattr(parent, name, kind(child, recipe.quantization, dtype))
    if kind is TorchaoLinear:
        return
    _adapt(model)
    if recipe.kbit_preparation:
        cast_the_rest(model)


def replaceable(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Linear]]:
    """Linears of a wrapped model but the output head: their parent's path, their parent, their name, themselves."""
    output = model.get_output_embeddings()  # type: ignore[operator]
    head = set() if output is None else set(output.modules())
    for path, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear or child in head or ".lora_" in f".{path}.":
                continue
            if is_added(f"{path}.{name}"):
                raise UsageError(
                    f"quantized linears cannot be trained whole: {_own(path)}",
                    hint="leave them out of --modules-to-save",
                )
            yield path, parent, name, child


def cast_the_rest(model: nn.Module) -> None:
    """What is not quantized in fp32, adapters aside."""
    for path, parameter in model.named_parameters():
        if ".lora_" not in path and parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.float32)


def _own(path: str) -> str:
    """The base model's path of a copy."""
    return path.partition(".modules_to_save")[0].removeprefix("base_model.model.")


def parameter_sizes(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Names and elements of a model's parameters, the quantized ones as they were before."""
    yield from ((name, parameter.numel()) for name, parameter in model.named_parameters())
    for path, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            yield f"{path}.weight", module.in_features * module.out_features


def autocasts() -> bool:
    """What `torch.is_autocast_enabled()` would say on the GPU: its autocast is a CPU's here."""
    return torch.is_autocast_enabled("cpu")


def _adapt(model: nn.Module) -> None:
    """Give PEFT's wrappers around quantized linears the forward pass that they have around bitsandbytes' own."""
    from peft.tuners.lora.layer import Linear

    class Adapted(Linear):
        """peft/tuners/lora/bnb.py, `Linear4bit.forward` and `Linear8bitLt.forward`."""

        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            result = self.base_layer(x)
            if self.base_layer.quantization != "int8":
                result = result.clone()
            for name in self.active_adapters:
                expected = result.dtype
                if not autocasts():
                    x = self._cast_input_dtype(x, self.lora_A[name].weight.dtype)
                if name in self.lora_variant:
                    variant = self.lora_variant[name]
                    result = variant.forward(self, active_adapter=name, x=x, result=result)
                    result = result if autocasts() else result.to(expected)
                    continue
                dropped = self.lora_dropout[name](x)
                output = self.lora_B[name](self.lora_A[name](dropped)) * self.scaling[name]
                result = result + output.to(expected)
            return result  # type: ignore[no-any-return]

    for module in model.modules():
        if type(module) is Linear and isinstance(module.base_layer, QuantizedLinear):
            module.__class__ = Adapted
