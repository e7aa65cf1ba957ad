"""Figures of one run: learning curves, confusion matrix, ROC curves, comparison."""

from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genreclf.evaluation.metrics import compute_roc_curves
from genreclf.evaluation.runs import Predictions
from genreclf.figures.style import COLOURS, DASHES, STYLE, render_svg


def draw_history(history: list[dict[str, float]], best_epoch: int) -> str:
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
        return render_svg(figure)


def draw_confusion(matrix: list[list[int]], classes: list[str]) -> str:
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
        return render_svg(figure)


def draw_roc_curves(predictions: Predictions) -> str:
    """One ROC curve a genre, against the rest, with its area."""
    found = compute_roc_curves(predictions.labels, predictions.scores, predictions.classes)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.6))
        axes = figure.subplots()
        styles = zip(cycle(COLOURS), _cycle_dashes(len(COLOURS)), strict=False)
        for (name, (false_rate, true_rate, area)), (colour, dash) in zip(
            found.items(), styles, strict=False
        ):
            axes.plot(false_rate, true_rate, dash, color=colour, label=f"{name} ({area:.2f})")
        axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=0.8)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axes.legend(title="genre (area)", loc="lower right")
        return render_svg(figure)


def _cycle_dashes(period: int) -> Any:
    """Dashes that change fast, and differently each time the colours come round."""
    for number in cycle(range(period * len(DASHES))):
        yield DASHES[(number + number // period) % len(DASHES)]


def draw_comparison(
    labels: list[str], accuracies: list[float], intervals: list[list[float]]
) -> str:
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
        return render_svg(figure)
