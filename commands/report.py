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
@click.option("--png", type=_FILE, metavar="FILE", help="The same in pixels; needs the extra png.")
@JSON
def report(
    run: Path, html: Path | None, text: Path | None, svg: Path | None, png: Path | None, as_json: bool
) -> None:
    """Draw a run as one page to read. Predicted against measured, memory over time, loss, decisions, history."""
    from ..planner.record import read_record, record_document
    from ..report.markdown import markdown
    from ..report.memory_picture import memory_picture
    from ..report.page import page
    from ..report.picture import require_png, save_picture

    if png is not None:
        require_png()
    document = record_document(read_record(run))
    pictures = {kind: file for kind, file in (("svg", svg), ("png", png)) if file is not None}
    drawing = memory_picture(document) if pictures else None
    if pictures and drawing is None:
        raise LplanError(f"{run} has too few samples to draw", hint=f"leave out --{next(iter(pictures))}")
    if as_json:
        print_json(document)
    elif html is None and text is None and not pictures:
        html = run / "report.html"
    if html is not None:
        _write(html, page(document))
    if text is not None:
        _write(text, markdown(document))
    for kind, file in pictures.items():
        assert drawing is not None
        save_picture(drawing, file, kind)
        click.echo(f"written: {file}", err=True)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}", hint="name another file") from error
    click.echo(f"written: {file}", err=True)
