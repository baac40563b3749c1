"""What an adapter changes, tensor by tensor, in words of the base's files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...profiles.errors import LplanError, UsageError
from ..evaluation.adapters import CONFIG, WEIGHTS, require_adapter
from .files import DTYPES, Place, Skeleton, shapes_of

Shape = tuple[int, ...]
_MOST = 1e9
_PART = re.compile(
    r"(?P<module>.+?)\.(?P<kind>lora_embedding_[AB]|lora_[AB]|lora_magnitude_vector|"
    r"(token_adapter\.)?trainable_tokens_delta)(\.(?P<leaf>weight|bias))?"
)
_PARTS = {
    "lora_A": "A", "lora_B": "B", "lora_embedding_A": "A", "lora_embedding_B": "B",
    "lora_magnitude_vector": "magnitude", "trainable_tokens_delta": "rows",
    "token_adapter.trainable_tokens_delta": "rows",
}  # fmt: skip
_OTHERS = {
    "target_parameters": "it updates bare parameters", "layer_replication": "it repeats layers",
    "alora_invocation_tokens": "its tokens switch it on", "use_qalora": "it is QALoRA's",
    "use_bdlora": "it is BD-LoRA's", "kasa_config": "it is KASA's", "arrow_config": "it is Arrow's",
    "monteclora_config": "it is MonteCLoRA's", "velora_config": "it is VeLoRA's",
    "ensure_weight_tying": "it keeps tied weights tied",
}  # fmt: skip
_PLAIN_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal", "loftq")
"""`init_lora_weights` that leave the base's own weights as they are; others take A and B out of them."""


class BeyondFilesError(Exception):
    """The update is not one of ours: only the whole model by PEFT can tell what it comes to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """The adapter's tensors for one tensor of the base, by their part in it; without any, the tensor is copied."""

    name: str
    source: Place
    parts: Mapping[str, str]
    """A and B, the magnitude, a `whole` tensor that replaces, `rows` that replace, a bias to `add`."""
    scaling: float
    transposed: bool
    """Whether B @ A is the transpose of the tensor."""
    rows: tuple[int, ...] = ()
    """The rows that are replaced."""
    is_new: bool = False
    """Whether the files lack it: a head that leaves the embeddings it was tied to."""


def adapter_config(adapter: Path) -> dict[str, Any]:
    """PEFT's own configuration. Raises UsageError for a folder without an adapter, LplanError for a damaged one."""
    require_adapter(adapter)
    try:
        config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LplanError(f"{adapter / CONFIG} is no JSON: {error}", hint="save the adapter again") from error
    if not isinstance(config, dict):
        raise LplanError(f"{adapter / CONFIG} is no JSON object", hint="save the adapter again")
    return config


def read_updates(adapter: Path, places: Mapping[str, Place], skeleton: Skeleton) -> tuple[Update, ...]:
    """Every tensor that changes.

    Raises BeyondFilesError where our formulas don't say how, UsageError or LplanError for an adapter of another base.
    """
    config = adapter_config(adapter)
    _require_ours(config)
    return tuple(_Reader(config, shapes_of(adapter / WEIGHTS), places, skeleton).updates())


def _require_ours(config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise BeyondFilesError(f"it is no LoRA but {config.get('peft_type')}")
    for name, why in _OTHERS.items():
        if config.get(name):
            raise BeyondFilesError(f"{why} ({name})")
    if (begins := config.get("init_lora_weights", True)) not in _PLAIN_BEGINNINGS:
        raise BeyondFilesError(f"it began as {begins} does, which changes the base (init_lora_weights)")
    _require_sound(config)
    if config.get("use_dora") and config.get("lora_bias"):
        raise BeyondFilesError("it is DoRA with biases (lora_bias)")


def _require_sound(config: Mapping[str, Any]) -> None:
    """Raises LplanError for a configuration that PEFT has not written."""
    patterns, rows = config.get("alpha_pattern") or {}, config.get("trainable_token_indices") or []
    try:
        alphas = [config.get("lora_alpha"), *(patterns.values())]
        wrong = not all(isinstance(alpha, int | float) and abs(alpha) < _MOST for alpha in alphas)
        for pattern in patterns:
            re.compile(pattern)
        listed = list(rows.values()) if isinstance(rows, dict) else [rows]
        wrong = wrong or not all(isinstance(row, int) for one in listed for row in one)
    except (AttributeError, TypeError, re.error):
        wrong = True
    if wrong:
        raise LplanError(
            f"{CONFIG} is damaged: its alpha, patterns or tokens are none", hint="save the adapter again"
        )


def _grouped(names: Mapping[str, Shape]) -> dict[str, dict[str, str]]:
    """The adapter's tensors by the base's tensor and by their part in it."""
    grouped: dict[str, dict[str, str]] = {}
    for name in names:
        path = name.removeprefix("base_model.model.")
        found = _PART.fullmatch(path)
        if found is None:
            grouped.setdefault(path.replace(".base_layer.", "."), {})["whole"] = name
        elif found["leaf"] == "bias":
            grouped.setdefault(f"{_module(found)}.bias", {})["add"] = name
        else:
            grouped.setdefault(f"{_module(found)}.weight", {})[_PARTS[found["kind"]]] = name
    return grouped


def _module(found: re.Match[str]) -> str:
    return found["module"].removesuffix(".base_layer")


class _Reader:
    """One adapter beside one base. Names are the adapter's, which has the whole model's paths."""

    def __init__(
        self,
        config: Mapping[str, Any],
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        skeleton: Skeleton,
    ) -> None:
        self._config, self._shapes, self._places, self._skeleton = config, shapes, places, skeleton
        self._grouped = _grouped(shapes)

    def updates(self) -> Iterator[Update]:
        embeddings, head = f"{self._skeleton.embeddings}.weight", f"{self._skeleton.head}.weight"
        for name in self._grouped:
            if name != head:
                yield self._update(name, self._found(name))
        moved = set(self._grouped.get(embeddings, ())) - {"rows"}
        if self._skeleton.head is None or not (moved or head in self._grouped):
            return
        if "rows" in self._grouped.get(embeddings, ()):
            raise BeyondFilesError("it changes tied weights in two ways")
        found = head if head in self._places else self._found(embeddings)
        yield self._update(head, found, is_new=head not in self._places)

    def _found(self, name: str) -> str:
        """The name in the files. Raises UsageError for a bias that there is not, BeyondFilesError for a weight."""
        for known in (name, name.removeprefix(self._skeleton.prefix)):
            if known in self._places:
                return known
        if name.endswith(".bias"):
            raise UsageError(
                f"the adapter adds to {name}, which this base lacks",
                hint="PEFT cannot merge it either: load base and adapter together",
            )
        raise BeyondFilesError(f"the files hold no {name}")

    def _update(self, name: str, found: str, *, is_new: bool = False) -> Update:
        parts, source = self._grouped.get(name, {}), self._places[found]
        if source.dtype not in DTYPES:
            raise UsageError(
                f"the base's {found} is {source.dtype}: an adapter is not merged into it",
                hint="merge into the base that it was quantized from: --model DIR",
            )
        if ("A" in parts) != ("B" in parts):
            raise LplanError(
                f"the adapter has only half of the update of {name}", hint="save the adapter again"
            )
        module = name.removesuffix(".weight").removesuffix(".bias")
        embeds = module == self._skeleton.embeddings
        update = Update(
            name=name if is_new else found,
            source=source,
            parts=parts,
            scaling=self._scaling(module),
            transposed=embeds or module in self._skeleton.transposed,
            rows=self._rows(module) if "rows" in parts else (),
            is_new=is_new,
        )
        self._check(update)
        return update

    def _scaling(self, module: str) -> float:
        from peft.utils.other import get_pattern_key

        a = self._grouped.get(f"{module}.weight", {}).get("A")
        if a is None:
            return 1.0
        rank, pattern = (self._shapes[a] or (1,))[0] or 1, self._config.get("alpha_pattern") or {}
        alpha = pattern.get(get_pattern_key(pattern.keys(), module), self._config["lora_alpha"])
        return float(alpha / (math.sqrt(rank) if self._config.get("use_rslora") else rank))

    def _rows(self, module: str) -> tuple[int, ...]:
        indices = self._config.get("trainable_token_indices")
        if isinstance(indices, dict):
            indices = next(
                (rows for path, rows in indices.items() if f".{module}".endswith(f".{path}")), None
            )
        return tuple(indices or ())

    def _check(self, update: Update) -> None:
        """Raises LplanError where the shapes of an update are not those of its place."""
        shape, parts = update.source.shape, {p: self._shapes[name] for p, name in update.parts.items()}
        wanted = {"whole": shape, "add": shape}
        if not shape:
            raise BeyondFilesError(f"{update.name} is a single number")
        if parts.keys() & {"A", "B", "magnitude", "rows"} and len(shape) != 2:
            raise BeyondFilesError(f"{update.name} is no matrix")
        if len(shape) == 2:
            out, into = reversed(shape) if update.transposed else shape
            rank = parts.get("A", (0,))[0]
            wanted |= {"A": (rank, into), "B": (out, rank), "magnitude": (out,)}
            wanted["rows"] = (len(update.rows), shape[1])
        for part, found in parts.items():
            if tuple(width for width in found if part != "magnitude" or width != 1) != wanted[part]:
                raise LplanError(
                    f"the adapter does not go with this base: {update.name} is {_by(shape)} there, "
                    f"and its {part} {_by(found)}",
                    hint="is it of another model? say which by --model DIR",
                )
        if update.rows and not 0 <= min(update.rows) <= max(update.rows) < shape[0]:
            raise LplanError(
                f"the adapter has trained token {max(update.rows)}, and this base only {shape[0]}",
                hint="is it of another model? say which by --model DIR",
            )


def _by(shape: Shape) -> str:
    return " × ".join(map(str, shape))
