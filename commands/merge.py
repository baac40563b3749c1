"""`lplan merge`: an adapter into its base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..options import JSON, Size
from ..profiles.errors import UsageError
from ..profiles.units import format_size
from .shared import console, print_json

if TYPE_CHECKING:
    from ..trainer.merging.check import Agreement
    from ..trainer.merging.merge import MergePlan


@click.command("merge")
@click.argument("source", metavar="RUN|ADAPTER", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--model", "base", type=click.Path(path_type=Path), help="The base's folder, if it has moved.")
@click.option("--ram", type=Size(), help="Memory that merging may use, libraries included.")
@click.option("--no-check", is_flag=True, help="Don't load both models to compare them.")
@JSON
def merge_adapter(
    source: Path, output: Path, base: Path | None, ram: int | None, no_check: bool, as_json: bool
) -> None:
    """Merge an adapter into its base's files, block by block. The model is never in memory."""
    from ..planner.tracer import baseline
    from ..trainer.evaluation.adapters import base_of
    from ..trainer.merging.check import merge_and_check
    from ..trainer.quiet import quiet

    quiet()
    adapter = source / "adapter" if (source / "adapter").is_dir() else source
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} is there already", hint="name a new folder by --output")
    libraries = baseline()
    talk = console(stderr=True)

    def tell(plan: MergePlan) -> None:
        if not as_json:
            talk.print(f"{_how(plan)}; at most {format_size(plan.peak_bytes)} while merging", soft_wrap=True)

    merged = merge_and_check(
        base or base_of(adapter),
        adapter,
        output,
        libraries_bytes=libraries.anonymous_bytes + libraries.file_bytes,
        ram_bytes=ram,
        check=not no_check,
        on_plan=tell,
    )
    if as_json:
        print_json(merged.document())
        return
    if merged.measured_bytes is not None:
        talk.print(f"{format_size(merged.measured_bytes)} measured")
    if (found := merged.agreement) is not None:
        talk.print(_told(found), soft_wrap=True)
    console().print(f"merged into {output}", soft_wrap=True)


def _how(plan: MergePlan) -> str:
    if plan.by_peft is not None:
        return f"by PEFT, with the whole model in memory: {plan.by_peft}"
    head = "; the head leaves the embeddings it was tied to" if plan.unties else ""
    return f"{plan.tensors} tensors, in blocks of {format_size(plan.block_bytes)}{head}"


def _told(found: Agreement) -> str:
    of = "text" if found.text else "random tokens"
    return (
        f"reloaded: {found.weights} tensors are those of PEFT's merge, to {found.steps:.1f} units in the last place; "
        f"on {found.tokens} tokens of {of} {found.top_share:.0%} of the likeliest next tokens agree with base and "
        f"adapter, logits differ by {found.mean:.3f} standard deviations (the adapter moves them by {found.moves:.3f})"
    )
