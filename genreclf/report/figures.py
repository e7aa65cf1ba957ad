"""Figures of the report, as SVG text that inherits the page's width.

Colours are those of Okabe and Ito, safe for colour-blind readers, and lines differ in their dashes
as well, so that a print in grey stays legible.
"""

import io
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
}


def _svg(figure: Figure) -> str:
    text = io.StringIO()
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
        return _svg(figure)


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
        return _svg(figure)


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
        return _svg(figure)


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
        return _svg(figure)
