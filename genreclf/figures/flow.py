"""Flow charts: boxes and arrows."""

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.textpath import TextPath

from genreclf.figures.style import COLOURS, STYLE

KINDS = ("convolution", "attention", "recurrent", "linear", "pooling")  # in the order of COLOURS


class Box(NamedTuple):
    """A box of a flow chart; one without lines is joined to the box above.

    Args:
        kind: one of `KINDS`, which gives its colour; "sum" is a circle; others are grey.
        lines: its text.
        detail: a last line, small and grey.
        inputs: labels of the arrows that lead here, by the number of the box they come from.
    """

    kind: str
    lines: list[str]
    detail: str
    inputs: dict[int, str]


class _Place(NamedTuple):
    x: float  # of the centre; all in inches
    y: float  # of the top, measured downwards
    width: float
    height: float


def draw_flow(boxes: Sequence[Box], below: str) -> Figure:
    """Draw boxes from top to bottom, branches to their right, and a line of text below."""
    with mpl.rc_context(STYLE):
        places = _place_boxes(boxes)
        width = max(place.x + place.width / 2 for place in places)
        height = max(place.y + place.height for place in places)
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        for box, end in zip(boxes, places, strict=True):
            _draw_box(axes, box, end)
            for number, label in box.inputs.items():
                start = places[number]
                between = [p for p in places if p.x == end.x and start.y < p.y < end.y]
                around = max((p.x + p.width / 2 + 0.1 for p in between), default=0.0)
                if end.y - start.y - start.height > 0.01:
                    _draw_arrow(axes, start, end, around, label)
        axes.text(places[0].x, height + 0.1, below, size=7, ha="center", va="top")
    return figure


def _place_boxes(boxes: Sequence[Box]) -> list[_Place]:
    """Place each box in the first free column of the row below the lowest box that leads to it."""
    cells: list[tuple[int, int]] = []
    for box in boxes:
        row = 1 + max((cells[number][0] for number in box.inputs), default=-1)
        column = min((cells[number][1] for number in box.inputs), default=0)
        cells.append((row, next(n for n in count(column) if (row, n) not in cells)))
    rows, columns = np.array(cells).T
    sizes = np.array([_measure_box(box) for box in boxes])
    widths, heights, gaps = np.zeros((3, len(boxes)))  # of each column and of each row
    np.maximum.at(widths, columns, sizes[:, 0])
    np.maximum.at(heights, rows, sizes[:, 1])
    np.maximum.at(gaps, rows, [0.28 if box.lines else 0.0 for box in boxes])
    x = np.cumsum(widths + 0.2) - widths / 2 - 0.2
    y = np.cumsum(heights + gaps) - heights - gaps[0]
    reach = np.where([box.kind == "sum" for box in boxes], 0.2, widths[columns])
    return list(map(_Place, x[columns], y[rows], reach, sizes[:, 1]))


def _measure_box(box: Box) -> tuple[float, float]:
    """Measure the width and height that the text needs, in inches."""
    texts = [TextPath((0, 0), text, size=7) for text in (*box.lines, box.detail) if text]
    width = max(text.get_extents().width for text in texts)
    return width / 72 + 0.16, 0.125 * len(texts) + 0.075


def _draw_box(axes: Axes, box: Box, place: _Place) -> None:
    colour = COLOURS[KINDS.index(box.kind) if box.kind in KINDS else -1]
    corner = (place.x - place.width / 2, place.y)
    patch = FancyBboxPatch(corner, place.width, place.height, clip_on=False, linewidth=0.8)
    patch.set(facecolor=0.8 + 0.2 * np.array(to_rgb(colour)), edgecolor=colour)
    patch.set_boxstyle("circle" if box.kind == "sum" else "square", pad=0)
    axes.add_patch(patch)
    texts = [(line, 7, "black") for line in box.lines] + [(box.detail, 6, "#555555")]
    for number, (text, size, colour) in enumerate(texts):
        y = place.y + 0.1 + 0.125 * number
        axes.text(place.x, y, text, size=size, color=colour, ha="center", va="center_baseline")


def _draw_arrow(axes: Axes, start: _Place, end: _Place, around: float, label: str) -> None:
    """Draw an arrow down, to a branch on the right, back to the left, or around x = `around`."""
    leave, enter = start.y + start.height, end.y + end.height / 2
    bend, right = leave + 0.09, end.x + end.width / 2
    points = [(start.x, leave), (end.x, end.y)]
    if start.x < end.x:
        points[1:1] = [(start.x, bend), (end.x, bend)]
    elif start.x > end.x:
        points[1:] = [(start.x, enter), (right, enter)]
    elif around:
        points[1:] = [(start.x, bend), (around, bend), (around, enter), (right, enter)]
    axes.plot(*zip(*points[:-1], strict=True), color="#555555", linewidth=0.8, clip_on=False)
    head = {"arrowstyle": "-|>", "mutation_scale": 5, "shrinkA": 0, "shrinkB": 0}
    head |= {"color": "#555555", "linewidth": 0.8}
    axes.annotate("", points[-1], points[-2], arrowprops=head, annotation_clip=False)
    place = (end.x, end.y - 0.09) if start.x <= end.x else (start.x, leave + 0.1)
    axes.text(place[0] + 0.06, place[1], label, size=6, color="#555555", va="center")
