"""Words and numbers as people read them: sizes in columns, durations, counts, a recipe in a phrase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from ..planner.recipe import Recipe
from ..planner.selectors import targets, trained_besides
from ..profiles.units import gib
from .style import MUTED, NOTHING, SEPARATOR, STRONG

if TYPE_CHECKING:
    from ..planner.evaluation import Share

_WHEN = {
    "import": "while importing the libraries",
    "load": "while loading the model",
    "wrap": "while adding the adapters",
    "rehearsal": "in the rehearsal",
    "first step": "in the first step",
    "steady step": "in a steady step",
    "evaluation": "during evaluation",
    "save": "while saving",
    "tokenizing": "while tokenizing the data",
    "resume": "while resuming",
    "merge in place": "while merging in place",
    "merge into a copy": "while merging into a copy",
}

_SHORT_HEADS = {"first step": "first\nstep", "steady step": "steady\nstep", "evaluation": "eval"}

_UNUSUAL: Mapping[tuple[str, object], str] = {
    ("adapter_dtype", "base"): "adapters in the base's dtype",
    ("optimizer", "adamw-8bit"): "8-bit AdamW",
    ("optimizer", "paged-adamw"): "paged AdamW",
    ("optimizer", "paged-adamw-8bit"): "paged 8-bit AdamW",
    ("optimizer", "adafactor"): "Adafactor",
    ("optimizer", "lion"): "Lion",
    ("optimizer", "sgd"): "SGD",
    ("optimizer", "sgd-momentum"): "SGD with momentum",
    ("attention", "eager"): "eager attention",
    ("attention", "flash"): "flash-attention",
    ("loss", "supervised"): "supervised loss",
    ("loss", "chunked"): "chunked loss",
    ("padding", "packed"): "packed rows",
    ("clipping", False): "no clipping",
    ("init", "random"): "random weights",
    ("eval_logits", "gathered"): "evaluation keeps logits",
    ("eval_logits", "argmax"): "evaluation keeps predictions",
}
_UNUSUAL_ON: Mapping[str, Mapping[tuple[str, object], str]] = {
    "cpu": {("allocator", "default"): "default allocator"},
    "cuda": {("allocator", "expandable"): "expandable segments"},
}

_ENFORCED = {
    "cgroup-v1": "enforced by a control group (version 1)",
    "cgroup-v2": "enforced by a control group (version 2)",
    "rlimit": "enforced by a resource limit",
    "watch": "watched by lplan, not enforced by the kernel",
    "none": "not enforced",
}
_SAME = 0.02


def size_cell(size_bytes: int) -> str:
    """GiB for a column whose head says so; nothing is a dot, and next to nothing says so."""
    if size_bytes == 0:
        return NOTHING
    text = gib(size_bytes)
    return "<0.01" if text == "0.00" else text


def duration(seconds: float) -> str:
    """Two units at most: "0.45 s", "9.8 s", "42 s", "12 min 5 s", "1 h 12 min", "2 d 3 h"."""
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(divmod(whole, 60), "min", "s")
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return _two(divmod(minutes, 60), "h", "min")
    return _two(divmod(round(seconds / 3600), 24), "d", "h")


def _two(parts: tuple[int, int], large: str, small: str) -> str:
    return f"{parts[0]} {large} {parts[1]} {small}" if parts[1] else f"{parts[0]} {large}"


def clock(seconds: float) -> str:
    """Seconds since the start as a stamp for a log line: "0:07", "1:02:03"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(number: int) -> str:
    """Parameters: "1.10 B", "134.5 M", exact below a million."""
    if number >= 10**9:
        return f"{number / 10**9:.2f} B"
    if number >= 10**6:
        return f"{number / 10**6:.1f} M"
    return f"{number:,}"


def rate(tokens_per_s: float) -> str:
    """Tokens per second in about three digits."""
    return f"{tokens_per_s:,.0f}" if tokens_per_s >= 99.5 else f"{tokens_per_s:.1f}"


def percent(part: float, whole: float) -> str:
    """`part` of `whole`, in as many decimals as a small share needs; a dash of nothing."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if share < 1:
        return f"{share:.2f} %" if share else "0 %"
    near_the_edge = share < 10 or 99 < share < 101
    return f"{share:.1f} %" if near_the_edge and part != whole else f"{share:.0f} %"


def when(phase: str) -> str:
    """A phase as the end of a sentence: "in the first step"."""
    return _WHEN.get(phase, f"in the phase {phase}")


def enforcement(limiter: str) -> str:
    """Who holds a run to its budget; `limiter` as in `planner.events.Start`."""
    return _ENFORCED.get(limiter, f"enforced by {limiter}")


def phase_head(phase: str) -> str:
    """A phase as the head of a narrow column, on two lines where needed."""
    return _SHORT_HEADS.get(phase, phase)


def recipe_phrase(recipe: Recipe) -> tuple[str, ...]:
    """What a recipe does, the usual left unsaid: ("LoRA r 8 on q,k,v,o", "bf16", "2 × 512 tokens", ...)."""
    usual = (
        _method(recipe),
        recipe.precision
        if recipe.quantization == "none"
        else f"{recipe.precision} over {recipe.quantization}",
        f"{recipe.batch_size} × {recipe.seq_len} tokens",
        f"checkpointing {recipe.checkpointing}",
    )
    texts = {**_UNUSUAL, **_UNUSUAL_ON[recipe.device]}
    unusual = (text for (knob, value), text in texts.items() if getattr(recipe, knob) == value)
    hosted = (f"{word} on the host" for word in recipe.offload)
    return (*usual, *hosted, *(trained_besides(recipe) if recipe.adapts else ()), *unusual)


def _method(recipe: Recipe) -> str:
    if not recipe.adapts:
        return "full fine-tuning" if recipe.init == "pretrained" else "training from scratch"
    return f"{_LORA[recipe.method]} r {recipe.rank} on {targets(recipe)}"


_LORA = {"lora": "LoRA", "qlora": "QLoRA"}


def joined(parts: Sequence[str], width: int) -> str:
    """The parts with dots between, on as few lines as they fit, broken only between parts."""
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}{SEPARATOR}{part}" if lines[-1] else part
        if lines[-1] and cell_len(longer) > width:
            lines.append(part)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def change(ratio: float) -> str:
    """A ratio as what it changes: "+12 %", or "the same" within two percent."""
    return "the same" if abs(ratio - 1) < _SAME else f"{ratio - 1:+.0%}".replace("%", " %")


def share(found: Share) -> str:
    """A share of right answers with its interval: "90.3 % (86–93)"."""
    return f"{100 * found.share:.1f} % ({100 * found.low:.0f}–{100 * found.high:.0f})"


def harmless(text: str) -> str:
    """A model's words on one line, without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def sentence(text: str) -> str:
    """A clause with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def bullets(title: str, lines: Iterable[str]) -> Table:
    """A titled list with hanging indents."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for line in lines:
        grid.add_row(Text("•", style=MUTED), Text(line))
    titled = Table.grid()
    titled.add_row(Text(title, style=STRONG))
    titled.add_row(grid)
    return titled
