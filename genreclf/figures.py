"""Figures: of the report, as SVG text that inherits the page's width, and as files of their own.

Colours are those of Okabe and Ito, safe for colour-blind readers, and lines differ in their dashes
as well, so that a print in grey stays legible.
"""

import io
import os
import warnings
from collections.abc import Sequence
from itertools import count, cycle
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from genreclf.errors import InputError
from genreclf.metrics import roc
from genreclf.results import Predictions

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
DASHES = ("-", "--", "-.", ":")
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: searchable, and in the reader's font
    "svg.hashsalt": "genreclf",  # the same figure gives the same file
    "pdf.fonttype": 42,  # TrueType, which printers ask for
}
SUFFIXES = (".svg", ".png", ".pdf")
KINDS = ("convolution", "attention", "recurrent", "linear", "pooling")  # have COLOURS in this order


def svg(figure: Figure) -> str:
    """The figure as SVG text, without what comes before its tag; the same each time."""
    text = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def curves(history: list[dict[str, float]], best_epoch: int) -> str:
    """Loss and accuracy of training and validation by epoch; the kept epoch is marked."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 2.8))
        panels: list[Axes] = list(figure.subplots(1, 2))
        epochs = [int(entry["epoch"]) + 1 for entry in history]
        for panel, name in zip(panels, ("loss", "accuracy"), strict=True):
            for part, colour, dash in zip(("train", "val"), COLOURS, DASHES, strict=False):
                values = np.array([entry[f"{part}/{name}"] for entry in history], float)
                marker = "o" if len(history) == 1 else None
                panel.plot(epochs, values, dash, color=colour, label=part, marker=marker)
            panel.axvline(best_epoch + 1, color="#7F7F7F", linewidth=0.8, label="kept")
            panel.set(xlabel="epoch", ylabel=name, xlim=(0.5, len(epochs) + 0.5))
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panels[1].set_ylim(0, 1)
        panels[0].legend()
        return svg(figure)


def confusion(matrix: list[list[int]], classes: list[str]) -> str:
    """Confusion matrix: counts, shaded by the share of the true genre."""
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 1.6 + 0.5 * len(classes)
    without_grid: dict[Any, Any] = {**STYLE, "axes.grid": False}
    with mpl.rc_context(without_grid):
        figure = Figure(figsize=(size, size))
        axes = figure.subplots()
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white")  # stays vector
        axes.set(xlabel="predicted", ylabel="true", aspect="equal")
        axes.invert_yaxis()
        ticks = np.arange(len(classes)) + 0.5
        axes.set_xticks(ticks, classes, rotation=45, ha="right")
        axes.set_yticks(ticks, classes)
        for row, column in np.ndindex(counts.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            place = (column + 0.5, row + 0.5)
            axes.text(*place, str(counts[row, column]), ha="center", va="center", color=colour)
        return svg(figure)


def roc_curves(predictions: Predictions) -> str:
    """One ROC curve a genre, against the rest, with its area."""
    found = roc(predictions.labels, predictions.scores, predictions.classes)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.6))
        axes = figure.subplots()
        styles = zip(cycle(COLOURS), _dashes(len(COLOURS)), strict=False)
        for (name, (false_rate, true_rate, area)), (colour, dash) in zip(
            found.items(), styles, strict=False
        ):
            axes.plot(false_rate, true_rate, dash, color=colour, label=f"{name} ({area:.2f})")
        axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=0.8)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axes.legend(title="genre (area)", loc="lower right")
        return svg(figure)


def _dashes(period: int) -> Any:
    """Dashes that change fast, and differently each time the colours come round."""
    for number in cycle(range(period * len(DASHES))):
        yield DASHES[(number + number // period) % len(DASHES)]


def comparison(labels: list[str], accuracies: list[float], intervals: list[list[float]]) -> str:
    """Accuracy of each run with its 95 % interval, one under the other."""
    values = 100 * np.asarray(accuracies)
    bounds = 100 * np.asarray(intervals).T
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 0.8 + 0.28 * len(labels)))
        axes = figure.subplots()
        places = np.arange(len(labels))
        errors = np.abs(bounds - values)
        axes.errorbar(values, places, xerr=errors, fmt="o", color=COLOURS[0], capsize=3)
        axes.set_yticks(places, labels)
        axes.invert_yaxis()
        axes.set(xlabel="accuracy, %, with 95 % interval")
        return svg(figure)


def picture_path(chosen: str | None, default: Path) -> Path:
    """Where a picture is to be written.

    Raises:
        InputError: a suffix that is not one of `SUFFIXES`.
    """
    path = Path(str(chosen)) if chosen else default
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"file={path}: its name must end in {', '.join(SUFFIXES)}")
    return path


def save(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all, in the format of its suffix; the same one each time."""
    suffix = path.suffix.lower()
    dates: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a title in another script
        dated = {"metadata": dates.get(suffix)}
        figure.savefig(unfinished, format=suffix[1:], bbox_inches="tight", dpi=300, **dated)
    unfinished.replace(path)


class Box(NamedTuple):
    """A box of `flow`; one without lines is joined to the box above."""

    kind: str  # one of KINDS; "sum" is a circle; others are grey
    lines: list[str]
    detail: str  # a last line, small and grey
    inputs: dict[int, str]  # numbers of the boxes that lead here, and labels of the arrows


class _Place(NamedTuple):
    x: float  # of the middle, in inches, as the others
    y: float  # of the top, downwards
    width: float
    height: float


def flow(boxes: Sequence[Box], below: str) -> Figure:
    """Boxes from top to bottom, branches at their right; one line of text stands below."""
    with mpl.rc_context(STYLE):
        places = _places(boxes)
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


def _places(boxes: Sequence[Box]) -> list[_Place]:
    """Each box one row below the lowest that leads to it, in the first column that is free."""
    cells: list[tuple[int, int]] = []
    for box in boxes:
        row = 1 + max((cells[number][0] for number in box.inputs), default=-1)
        column = min((cells[number][1] for number in box.inputs), default=0)
        cells.append((row, next(n for n in count(column) if (row, n) not in cells)))
    rows, columns = np.array(cells).T
    sizes = np.array([_size(box) for box in boxes])
    widths, heights, gaps = np.zeros((3, len(boxes)))  # of each column and of each row
    np.maximum.at(widths, columns, sizes[:, 0])
    np.maximum.at(heights, rows, sizes[:, 1])
    np.maximum.at(gaps, rows, [0.28 if box.lines else 0.0 for box in boxes])
    x = np.cumsum(widths + 0.2) - widths / 2 - 0.2
    y = np.cumsum(heights + gaps) - heights - gaps[0]
    reach = np.where([box.kind == "sum" for box in boxes], 0.2, widths[columns])
    return list(map(_Place, x[columns], y[rows], reach, sizes[:, 1]))


def _size(box: Box) -> tuple[float, float]:
    """Width and height in inches that the text needs."""
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
    """Straight down; or a branch to the right, back to the left, or round by x = `around`."""
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
