"""The walk as a chart: bars begin where the one before ended, and both files show the same."""

from __future__ import annotations

from io import BytesIO
from xml.etree import ElementTree

import pytest

from lplan.planner.walk import Measure
from lplan.profiles.errors import UsageError
from lplan.profiles.units import GIB
from lplan.report.picture import COLOURS, Box, Label, Line, png_bytes, save_picture, svg_text
from lplan.report.waterfall import waterfall

SVG = "{http://www.w3.org/2000/svg}"


def measure(name, peak, saves, ratio=0.9):
    return Measure(
        name=name, setting="s", peak_bytes=peak * GIB, saves_bytes=saves * GIB, time_ratio=ratio, fits=peak < 8
    )  # fmt: skip


MEASURES = [
    measure("full <fine> & tuning", 20, 0, None),
    measure("precision", 10, 10),
    measure("allocator", 12, -2),
    measure("adapters", 4, 8),
]


def boxes(picture):
    return [shape for shape in picture.shapes if isinstance(shape, Box)]


def test_bars_lead_from_running_total_to_running_total():
    chart = waterfall("model", MEASURES, 8 * GIB)
    total = boxes(chart)[0]
    unit = total.width / 20  # a GiB
    assert [box.colour for box in boxes(chart)] == ["total", "saved", "added", "saved", "total"]
    assert [(box.x - total.x) / unit for box in boxes(chart)] == pytest.approx([0, 10, 10, 4, 0])
    assert [box.width / unit for box in boxes(chart)] == pytest.approx([20, 10, 2, 8, 4])
    assert [box.y for box in boxes(chart)] == sorted({box.y for box in boxes(chart)})
    (budget,) = [shape for shape in chart.shapes if isinstance(shape, Line) and shape.dashed]
    assert (budget.x1 - total.x) / unit == pytest.approx(8)
    figures = [shape.text for shape in chart.shapes if isinstance(shape, Label)]
    assert {
        "20.00 GiB",
        "-10.00 GiB",
        "+2.00 GiB",
        "-8.00 GiB",
        "4.00 GiB",
        "-10 %",
        "budget 8.00 GiB",
    } <= set(figures)


@pytest.mark.parametrize("budget", [1, 8, 500])
def test_everything_lies_on_the_paper(budget):
    chart = waterfall("model", MEASURES, budget * GIB)
    for shape in chart.shapes:
        if isinstance(shape, Box):
            assert 0 <= shape.x < shape.x + shape.width <= chart.width
        elif isinstance(shape, Line):
            assert 0 <= shape.x1 <= chart.width
        assert 0 <= (shape.y1 if isinstance(shape, Line) else shape.y) <= chart.height


def test_the_svg_is_xml_with_every_shape_and_a_dark_mode():
    chart = waterfall("a <model> & more", MEASURES, 8 * GIB)
    root = ElementTree.fromstring(svg_text(chart))
    shapes = [*root.iter(f"{SVG}rect"), *root.iter(f"{SVG}line"), *root.iter(f"{SVG}text")]
    assert len(shapes) == len(chart.shapes) + 1  # the paper
    assert root.findtext(f"{SVG}title") == "a <model> & more: from full fine-tuning to the plan"
    style = root.findtext(f"{SVG}style")
    assert "prefers-color-scheme:dark" in style
    assert {shape.get("class") for shape in shapes} <= set(COLOURS)


def test_the_png_has_the_bars_where_the_svg_has_them():
    image_module = pytest.importorskip("PIL.Image")
    chart = waterfall("model", MEASURES, 8 * GIB)
    image = image_module.open(BytesIO(png_bytes(chart)))
    assert image.size == (2 * chart.width, 2 * chart.height)
    for box in boxes(chart):
        colour = COLOURS[box.colour][0]
        pixel = image.getpixel((int(2 * box.x) + 3, int(2 * box.y) + 3))
        assert "#" + bytes(pixel).hex() == colour


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match="cannot write"):
        save_picture(waterfall("model", MEASURES, GIB), tmp_path / "no" / "a.svg", "svg")
