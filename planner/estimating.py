"""From a footprint to an estimate: what the tensors need, plus the process around them, phase by phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..profiles.hardware import Budget, Gpu, Hardware
from ..profiles.model import ModelProfile
from .estimate import COMPONENTS, PHASES, STEPS, ByteRange, Estimate, PhaseEstimate
from .estimating_cuda import CudaRun
from .footprint import Footprint
from .gathering import gathering
from .heap import Slack, heap_use, slack
from .host_process import HostSide
from .int8_on_cpu import int8_weights
from .polynomial import Shape
from .recipe import LOSS_CHUNK, Recipe
from .residuals import residuals
from .runtime import Baseline, growth
from .texts import Texts
from .tokens import round_up
from .workers import loader_bytes

TRACED_PHASES = (*STEPS, "evaluation")
LOGITS = "logits and loss"
_MAPPED_BEFORE_USE = ("import", "load", "wrap")


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """Everything an estimate depends on besides the recipe."""

    model: ModelProfile
    hardware: Hardware
    budget: Budget
    baseline: Baseline
    versions: Mapping[str, str]
    offsets: Mapping[str, int] = field(default_factory=dict)
    """What this machine's own runs add to each phase."""
    texts: Texts | None = None
    """What will be tokenized, where that is known."""


def shape_of(recipe: Recipe) -> Shape:
    """The batch shape that a recipe's worst micro batch has."""
    supervised = round_up(recipe.batch_size * min(recipe.supervised_len, recipe.seq_len), recipe.row_multiple)
    rows, seq = recipe.batch_size, recipe.seq_len
    if recipe.padding == "packed":
        rows, seq = 1, rows * seq
    return Shape(batch=rows, seq=seq, supervised=supervised, chunk=_chunk(recipe, rows * seq, supervised))


def _chunk(recipe: Recipe, tokens: int, supervised: int) -> int:
    """Rows of logits that exist at once; Liger's are a power of two, so that they take about what the hidden states do
    (liger_kernel/ops/fused_linear_cross_entropy.py)."""
    if recipe.loss != "fused":
        return min(LOSS_CHUNK, supervised)
    share = -(-tokens // recipe.head_ratio)
    return min(tokens, 1 << (share - 1).bit_length())


def is_mapped(model: ModelProfile, recipe: Recipe) -> bool:
    """Whether the weights stay pages of their file: they come from them, and are not trained."""
    return recipe.adapts and from_pages(model, recipe)


def from_pages(model: ModelProfile, recipe: Recipe) -> bool:
    """Whether loading maps the weights' file: safetensors, in the dtype that it has."""
    return (
        recipe.init == "pretrained"
        and model.weights.format == "safetensors"
        and model.weights.dtype == recipe.weights_dtype
    )


def make_estimate(recipe: Recipe, footprint: Footprint, situation: Situation) -> Estimate:
    """The estimate of a recipe whose footprint is known."""
    shape = shape_of(recipe)
    values = shape.values()
    if recipe.device == "cuda":
        gpu, budget = situation.hardware.gpus[0], situation.budget.budget_bytes
        run = CudaRun(recipe=recipe, footprint=footprint, shape=shape, gpu=gpu, budget_bytes=budget)
        host = HostSide(
            recipe=recipe,
            footprint=footprint,
            shape=shape,
            model=situation.model,
            libraries=situation.baseline,
        )
        phases = host.beside(run.phases())
    else:
        builder = _Phases(recipe, footprint, situation)
        phases = tuple(builder.phase(name) for name in PHASES)
    return Estimate(
        model=situation.model,
        architecture=footprint.architecture,
        parameters=footprint.parameters.at(values, footprint.extra_units),
        trainable_parameters=footprint.trainable_parameters.at(values, footprint.extra_units),
        recipe=recipe,
        hardware=situation.hardware,
        budget=situation.budget,
        phases=phases,
        assumptions=_assumptions(recipe, footprint, situation),
        not_modelled=_not_modelled(recipe),
        versions=situation.versions,
        offsets=situation.offsets if recipe.device == "cpu" else {},
    )


class _Phases:
    def __init__(self, recipe: Recipe, footprint: Footprint, situation: Situation) -> None:
        self.recipe, self.footprint, self.situation = recipe, footprint, situation
        self.shape = shape_of(recipe)
        self.mapped = is_mapped(situation.model, recipe)
        self.heap = heap_use(footprint, self.shape) if recipe.allocator == "default" else {}

    def phase(self, name: str) -> PhaseEstimate:
        live = self._live(name)
        baseline = self.situation.baseline
        extra = growth(name, self.recipe, self.footprint.layers, baseline)
        file_tensors, reclaimable = self._pages(name, live)
        runtime = baseline.anonymous_bytes + baseline.file_bytes + extra.anonymous_bytes + extra.file_bytes
        runtime += self.situation.offsets.get(name, 0)
        runtime += loader_bytes(self.recipe, name, self._rewritten_bytes(live))
        parts = {**live, "runtime": runtime + reclaimable}
        held = self._slack(name, live)
        parts["allocator slack"] = held.expected_bytes
        components = {part: parts[part] for part in COMPONENTS if parts.get(part)}
        expected = sum(components.values())
        low, high = residuals(self.recipe, None).spread().around(expected)
        low, high = min(low, expected - held.less_bytes), max(high, expected + held.more_bytes)
        files = baseline.file_bytes + extra.file_bytes + file_tensors + reclaimable
        return PhaseEstimate(
            name=name,
            peak=ByteRange(low_bytes=low, expected_bytes=expected, high_bytes=high),
            components=components,
            anonymous_bytes=expected - files,
            file_bytes=files,
            reclaimable_bytes=reclaimable,
        )

    def _pages(self, name: str, live: dict[str, int]) -> tuple[int, int]:
        """Of the weights' files: what counts as weights, and what has been read besides. Puts into `live` the weights
        that exist already."""
        if not self.mapped:
            return 0, self._conversion_bytes() if name == "load" else 0
        unused = name in _MAPPED_BEFORE_USE
        if self.recipe.quantization == "none":
            if unused:
                live["weights"] = self._read(name)
            return live.get("weights", 0), 0
        if name == "import":
            return 0, 0
        found = int8_weights(self.recipe, self.footprint, self.shape)
        if unused:
            live["weights"] = found.packed_bytes
        if name == "load":
            live["temporaries"] = found.temporary_bytes
        return 0 if unused else found.mapped_bytes, found.read_bytes

    def _live(self, name: str) -> dict[str, int]:
        """Tensors alive at the phase's peak, by component."""
        if name == "import":
            return {}
        if name in STEPS:
            return self.footprint.peak(name, self.shape)
        evaluation = self.footprint.peak("evaluation", self.shape)
        kept = {part: evaluation.get(part, 0) for part in ("weights", "adapters", "optimizer")}
        if name == "evaluation":
            return self._evaluation(evaluation, kept)
        if name == "load":
            return {"weights": kept["weights"] + self._untied_bytes()}
        if name == "wrap":
            return {"weights": kept["weights"], "adapters": kept["adapters"]}
        return kept

    def _evaluation(self, forward: dict[str, int], kept: dict[str, int]) -> dict[str, int]:
        """Its last forward pass, or what is gathered around it."""
        gathered = gathering(self.recipe, self.footprint, self.shape)
        if gathered is None:
            return forward
        beside = {**kept, LOGITS: gathered.as_arrays(shared=True)}
        forward = {**forward, LOGITS: forward.get(LOGITS, 0) + gathered.during_forward()}
        return max(forward, beside, key=lambda parts: sum(parts.values()))

    def _read(self, name: str) -> int:
        """Mapped weights that a phase before the first step reads already."""
        return self.footprint.peak(name, self.shape)["weights"] if name in self.footprint.phases else 0

    def _untied_bytes(self) -> int:
        """A model made in memory has a head of its own until it is tied to the embeddings."""
        made_here = self.recipe.init == "random" and self.footprint.shared_head
        return self.footprint.embedding_bytes if made_here else 0

    def _conversion_bytes(self) -> int:
        """File pages read while the weights are copied into another dtype; the kernel can drop them."""
        pretrained = self.recipe.init == "pretrained" and self.situation.model.weights.format != "none"
        return self.situation.model.weights.total_bytes if pretrained and not self.mapped else 0

    def _rewritten_bytes(self, live: Mapping[str, int]) -> int:
        """Memory of trained tensors that every optimizer step writes to. What is read from a file's pages isn't there
        yet when the workers start."""
        if self.recipe.adapts:
            return live.get("adapters", 0)
        return 0 if from_pages(self.situation.model, self.recipe) else live.get("weights", 0)

    def _slack(self, name: str, live: Mapping[str, int]) -> Slack:
        """What glibc's default allocator holds beyond live tensors."""
        if self.recipe.allocator == "pinned" or name not in _AFTER_WRAPPING:
            return Slack()
        return slack(self.heap, name, live, chunked=self.recipe.loss == "chunked")


_AFTER_WRAPPING = (*TRACED_PHASES, "save")
_DEFAULT_ALLOCATOR = (
    "where glibc's default allocator puts small objects, which decides how much freed memory it holds"
)
_NOT_MODELLED_ON_CUDA = (
    "CUDA's own memory on the host, which others measured (planner/host.toml), and libraries built for CUDA",
    "scratch memory of kernels that torch allocates outside its caching allocator",
    "other programs' use of the GPU",
)
_HOST_ARITHMETIC = "the time of the optimizer's arithmetic on the host"
_NOT_MODELLED = (
    "scratch memory inside math kernels beyond the measured constants",
    "other programs' use of the machine",
)


def _not_modelled(recipe: Recipe) -> tuple[str, ...]:
    if recipe.device == "cuda":
        hosted = "optimizer" in recipe.offload
        return (*_NOT_MODELLED_ON_CUDA, _HOST_ARITHMETIC) if hosted else _NOT_MODELLED_ON_CUDA
    return _NOT_MODELLED if recipe.allocator == "pinned" else (*_NOT_MODELLED, _DEFAULT_ALLOCATOR)


def _on_the_gpu(recipe: Recipe, footprint: Footprint, gpu: Gpu) -> list[str]:
    eager = "eager" in (recipe.attention, footprint.attention)
    attention = "transformers (eager)" if eager else _KERNELS[recipe.kernel]
    capability = ".".join(map(str, gpu.capability))
    lines = [f"on {gpu.name} (compute capability {capability})", f"attention by {attention}"]
    if recipe.is_packed:
        lines.append(
            f"linears as the files have them, {recipe.quantization.upper()} (trained by gptqmodel's kernels)"
        )
    elif recipe.quantization != "none":
        lines.append(f"linears quantized on loading to {recipe.quantization} (bitsandbytes)")
    lines += [_OFFLOADED[word] for word in recipe.offload]
    if recipe.optimizer.startswith("paged"):
        lines.append(
            "optimizer states of 100,000 elements and more are paged out of the GPU when it is full, and not counted"
        )
    return lines


_OFFLOADED = {
    "activations": "all that is saved for backward waits in pinned host memory (torch's save_on_cpu)",
    "checkpoints": "checkpoints wait in pinned host memory (transformers' activation checkpointing with offload)",
    "optimizer": "AdamW runs on the host, on pinned gradients (torchao's CPUOffloadOptimizer)",
    "weights": "frozen weights come from host memory for every forward pass (accelerate's cpu_offload)",
}
_INT8 = "linears are quantized to int8 on loading (torchao), and each keeps a copy in the input's dtype until backward"
_WHAT = {"gathered": "logits", "argmax": "the argmax of its logits"}
_GATHERED = (
    "an evaluation of {samples:,} sequences keeps {what} for a metric, whose own arrays are not counted"
)
_PACKED = "a micro batch is one row, its sequences kept apart by their positions, all as long as the longest"
_KERNELS = {
    "flash": "torch's flash kernel",
    "efficient": "torch's memory-efficient kernel",
    "cudnn": "cuDNN's kernel",
    "math": "torch's math path, which holds all scores: no fused kernel takes these tensors",
}


def _assumptions(recipe: Recipe, footprint: Footprint, situation: Situation) -> tuple[str, ...]:
    lines, model = [], situation.model
    if recipe.device == "cuda":
        lines += _on_the_gpu(recipe, footprint, situation.hardware.gpus[0])
    elif recipe.init == "random":
        lines.append("weights are made in memory, not loaded")
    elif model.weights.format == "none":
        lines.append(f"no weights at hand: a safetensors checkpoint in {model.weights.dtype} is supposed")
    elif is_mapped(model, recipe):
        lines.append("weights stay pages of their file: they count, but the kernel can reclaim them")
    elif model.weights.format == "gguf":
        unpacked = f"unpacked to {recipe.weights_dtype} on loading"
        lines.append(
            f"the GGUF file's weights are {unpacked}: its {model.weights.dtype} saves disk and no memory"
        )
    else:
        lines.append(f"weights are converted from {model.weights.dtype} to {recipe.weights_dtype} on loading")
    if recipe.device == "cpu" and recipe.quantization != "none":
        lines.append(_INT8)
    if recipe.padding == "padded":
        lines.append("batches carry padding, so attention masks are materialised")
    if recipe.padding == "packed":
        lines.append(_PACKED)
    if recipe.eval_logits != "none":
        lines.append(_GATHERED.format(what=_WHAT[recipe.eval_logits], samples=recipe.eval_samples))
    if recipe.loader_workers:
        lines.append(f"{recipe.loader_workers} forks of the process make batches (a DataLoader's workers)")
    if recipe.tokenizing_workers:
        lines.append(f"{recipe.tokenizing_workers} forks of the process tokenize, beside the loaded model")
    if footprint.shape is not None:
        lines.append("the graph depends on the batch shape: traced at this one")
    if situation.offsets and recipe.device == "cpu":
        lines.append("calibrated on this machine's own runs (lplan calibrate)")
    if recipe.adapts:
        lines.append(f"adapters on {', '.join(footprint.target_modules)}")
    return tuple(lines)
