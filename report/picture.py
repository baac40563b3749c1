"""Pictures as shapes, written as SVG text, or as PNG by Pillow: one drawing, two files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from ..profiles.errors import LplanError, UsageError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

COLOURS: Mapping[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#656d76", "#8d96a0"),
    "grid": ("#d0d7de", "#30363d"),
    "total": ("#57606a", "#8b949e"),
    "saved": ("#1a7f37", "#3fb950"),
    "added": ("#bc4c00", "#f0883e"),
    "budget": ("#cf222e", "#ff7b72"),
    "anonymous": ("#2563a8", "#6aaef0"),
    "file": ("#9cc3e6", "#2f5f8c"),
}
"""Every colour by what it means, on light and on dark paper."""
_FONT = "ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"
_SCALE = 2
"""Pixels of a PNG for one unit of the drawing."""
_DASH = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Area:
    """A filled polygon."""

    points: tuple[tuple[float, float], ...]
    colour: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A straight line, one unit wide."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: str
    dashed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """A line of text; `x` is its start, or its end, and `y` its middle."""

    x: float
    y: float
    text: str
    colour: str = "ink"
    size: int = 13
    from_end: bool = False


Shape = Box | Area | Line | Label


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """Shapes on paper, drawn in order."""

    width: int
    height: int
    title: str
    shapes: tuple[Shape, ...]


def save_picture(picture: Picture, file: Path, kind: str) -> None:
    """Write a picture as "svg" or "png". Raises UsageError where it cannot be written."""
    content = svg_text(picture).encode() if kind == "svg" else png_bytes(picture)
    try:
        file.write_bytes(content)
    except OSError as error:
        raise UsageError(
            f"cannot write {file}: {error.strerror}", hint=f"name another file by --{kind}"
        ) from error


def svg_text(picture: Picture) -> str:
    """An SVG document that follows the reader's light or dark mode."""
    light, dark = ("".join(f".{n}{{--c:{pair[i]}}}" for n, pair in COLOURS.items()) for i in (0, 1))
    style = (
        f"{light}@media(prefers-color-scheme:dark){{{dark}}}"
        "rect,text,polygon{fill:var(--c)}line{stroke:var(--c)}text{dominant-baseline:central}"
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {picture.width} {picture.height}" '
        f'width="{picture.width}" height="{picture.height}" font-family="{_FONT}" role="img">'
    )
    paper = Box(x=0, y=0, width=picture.width, height=picture.height, colour="paper")
    shapes = "\n".join(_svg(shape) for shape in (paper, *picture.shapes))
    return f"{head}\n<title>{escape(picture.title)}</title>\n<style>{style}</style>\n{shapes}\n</svg>\n"


def _svg(shape: Shape) -> str:
    if isinstance(shape, Box):
        place = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}"'
        return f'<rect class="{shape.colour}" {place}/>'
    if isinstance(shape, Area):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        return f'<polygon class="{shape.colour}" points="{points}"/>'
    if isinstance(shape, Line):
        dashes = f' stroke-dasharray="{_DASH}"' if shape.dashed else ""
        place = f'x1="{shape.x1:g}" y1="{shape.y1:g}" x2="{shape.x2:g}" y2="{shape.y2:g}"'
        return f'<line class="{shape.colour}" {place}{dashes}/>'
    anchor = ' text-anchor="end"' if shape.from_end else ""
    place = f'x="{shape.x:g}" y="{shape.y:g}" font-size="{shape.size}"{anchor}'
    return f'<text class="{shape.colour}" {place}>{escape(shape.text)}</text>'


def require_png() -> None:
    """Raises LplanError where there is no Pillow to write a PNG with."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise LplanError(
            "--png needs the package pillow, which is not installed",
            hint='pip install "lplan[png]", or take --svg',
        ) from error


def png_bytes(picture: Picture) -> bytes:
    """A PNG on light paper, at twice the picture's size. Needs Pillow."""
    require_png()
    from io import BytesIO

    from PIL import Image, ImageDraw

    size = (picture.width * _SCALE, picture.height * _SCALE)
    image = Image.new("RGB", size, COLOURS["paper"][0])
    draw = ImageDraw.Draw(image)
    for shape in picture.shapes:
        _paint(draw, shape)
    stream = BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _paint(draw: ImageDraw, shape: Shape) -> None:
    colour = COLOURS[shape.colour][0]
    if isinstance(shape, Box):
        right, bottom = shape.x + shape.width, shape.y + shape.height
        corners = (shape.x * _SCALE, shape.y * _SCALE, right * _SCALE - 1, bottom * _SCALE - 1)
        draw.rectangle(corners, fill=colour)
    elif isinstance(shape, Area):
        draw.polygon([(x * _SCALE, y * _SCALE) for x, y in shape.points], fill=colour)
    elif isinstance(shape, Line):
        for x1, y1, x2, y2 in _dashes(shape):
            draw.line((x1 * _SCALE, y1 * _SCALE, x2 * _SCALE, y2 * _SCALE), fill=colour, width=_SCALE)
    else:
        place = (shape.x * _SCALE, shape.y * _SCALE)
        draw.text(
            place, shape.text, fill=colour, font=_font(shape.size), anchor="rm" if shape.from_end else "lm"
        )


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size * _SCALE)


def _dashes(line: Line) -> Iterator[tuple[float, float, float, float]]:
    length = max(abs(line.x2 - line.x1), abs(line.y2 - line.y1))
    if not line.dashed or not length:
        yield line.x1, line.y1, line.x2, line.y2
        return
    along_x, along_y = (line.x2 - line.x1) / length, (line.y2 - line.y1) / length
    for start in range(0, int(length), 2 * _DASH):
        end = min(start + _DASH, length)
        yield (
            line.x1 + along_x * start, line.y1 + along_y * start,
            line.x1 + along_x * end, line.y1 + along_y * end,
        )  # fmt: skip
