"""`lplan report`: a run as a page, as Markdown, as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from ..options import JSON
from ..profiles.errors import LplanError, UsageError
from .shared import print_json

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--html", type=_FILE, metavar="FILE", help="The page. Default: RUN/report.html.")
@click.option("--markdown", "text", type=_FILE, metavar="FILE", help="Tables to paste.")
@click.option("--svg", type=_FILE, metavar="FILE", help="Memory over time, as a picture.")
@JSON
def report(run: Path, html: Path | None, text: Path | None, svg: Path | None, as_json: bool) -> None:
    """Draw a run: predicted against measured, memory over time, loss, decisions, history."""
    from ..planner.record import read_record, record_document
    from ..report.charts import memory_chart, picture
    from ..report.markdown import markdown
    from ..report.page import page

    document = record_document(read_record(run))
    chart = memory_chart(document)
    if svg is not None and not chart:
        raise LplanError(f"{run} has too few samples to draw", hint="leave out --svg")
    if as_json:
        print_json(document)
    elif html is None and text is None and svg is None:
        html = run / "report.html"
    if html is not None:
        _write(html, page(document))
    if text is not None:
        _write(text, markdown(document))
    if svg is not None:
        _write(svg, picture(chart))


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}", hint="name another file") from error
    click.echo(f"written: {file}", err=True)
