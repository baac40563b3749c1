"""`lplan generate`: ask a finished run, or several adapters of one base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..options import JSON, Number
from ..profiles.errors import UsageError
from ..profiles.units import format_size
from .shared import console, print_json

if TYPE_CHECKING:
    from ..trainer.evaluation.answering import Answer, Answering


@click.command("generate")
@click.argument("source", metavar="RUN|ADAPTER", type=click.Path(path_type=Path))
@click.argument("prompt")
@click.option(
    "--adapter",
    "others",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN|ADAPTER",
    help="Another adapter of the same base, which answers next.",
)
@click.option("--base", "with_base", is_flag=True, help="The base answers first, adapters off.")
@click.option("--model", type=click.Path(path_type=Path), help="The base's folder, if it has moved.")
@click.option("--system", metavar="TEXT", help="Default: the system prompt of the run's task.")
@click.option(
    "--max-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="Of an answer."
)
@click.option(
    "--temperature",
    type=Number(0, 10),
    default=0.0,
    show_default=True,
    help="0: always the likeliest token.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of what is drawn."
)
@JSON
def generate(
    source: Path,
    prompt: str,
    others: tuple[Path, ...],
    with_base: bool,
    model: Path | None,
    system: str | None,
    max_tokens: int,
    temperature: float,
    seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Answer a prompt with what a run has learned. Several adapters share one base and are switched."""
    if not prompt.strip():
        raise UsageError("the prompt is empty", hint="say what to ask")
    from ..trainer.evaluation.answering import BASE, Answered, Answering, Wish
    from ..trainer.quiet import quiet

    quiet()
    wish = Wish(prompt=prompt, system=system, most_tokens=max_tokens, temperature=temperature, seed=seed)
    answering = Answering((source, *others), model)
    ids, _ = answering.prompt(wish)
    if not as_json:
        console(stderr=True).print(_held(answering), soft_wrap=True)
    names = ((BASE,) if with_base and answering.adapters else ()) + answering.choices
    answers = []
    for name in names:
        if not as_json and len(names) > 1:
            click.echo(f"{'' if name == names[0] else chr(10)}{name}:")
        answers.append(answering.answer(name, wish, _nothing if as_json else _say))
        if not as_json:
            click.echo()
            console(stderr=True).print(_speed(answers[-1]), style="dim")
    if as_json:
        answered = Answered(
            wish=wish, base=answering.base, adapters=answering.adapters, prompt_tokens=len(ids),
            answers=tuple(answers),
        )  # fmt: skip
        print_json(answered.document())


def _say(text: str) -> None:
    # A model's words must not steer the terminal.
    click.echo("".join(c for c in text if c.isprintable() or c in "\n\t"), nl=False)


def _nothing(text: str) -> None:
    return


def _held(answering: Answering) -> str:
    adapters = [f"{held.name} {format_size(held.held_bytes)}" for held in answering.adapters]
    base = f"in memory: {answering.base.name} {format_size(answering.base.held_bytes)}"
    return " + ".join([base, *adapters])


def _speed(answer: Answer) -> str:
    end = "" if answer.ended else ", cut by --max-tokens"
    rate = f", {answer.tokens_per_s:.0f} tokens/s" if answer.tokens_per_s else ""
    return f"{answer.tokens} tokens, the first after {answer.first_token_s:.2f} s{rate}{end}"
