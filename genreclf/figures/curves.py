"""Figures of one run or of several, as SVG text: learning curves, confusion, ROC, accuracies."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genreclf.evaluation.intervals import Estimate
from genreclf.evaluation.metrics import compute_roc_curves
from genreclf.evaluation.runs import Predictions
from genreclf.figures.style import COLOURS, DASHES, STYLE, render_svg

History = list[dict[str, Any]]  # as in result.json: metrics of each epoch; None if diverged
GREY = "#7F7F7F"


def draw_history(history: History, best_epoch: int) -> str:
    """Draw training and validation loss and accuracy by epoch, and mark the kept epoch.

    Without accuracy among the metrics that were logged, the first of the others is drawn.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 2.8), layout="constrained")
        names = _choose_curves(history)
        panels: list[Axes] = list(figure.subplots(1, 2))[: len(names)]
        for panel, name in zip(panels, names, strict=True):
            for part, colour, dash in zip(("train", "val"), COLOURS, DASHES, strict=False):
                style = {"color": colour, "linestyle": dash, "label": part}
                _plot_curve(panel, history, f"{part}/{name}", 1, style)
            panel.axvline(best_epoch + 1, color=GREY, linewidth=0.8, label="kept")
            panel.set(ylabel=name, xlim=(0.5, len(history) + 0.5))
            if name == "accuracy":
                panel.set_ylim(0, 1)
        panels[0].legend()
        return render_svg(figure)


def _choose_curves(history: History) -> list[str]:
    """Choose the metrics to draw: the loss and, if any was logged, one more."""
    names = [key.removeprefix("val/") for key in history[0] if key.startswith("val/")]
    others = [name for name in names if name != "loss"]
    return ["loss", "accuracy" if "accuracy" in others else others[0]] if others else ["loss"]


def draw_learning_curves(lines: Mapping[str, Sequence[History]]) -> str:
    """Draw validation accuracy and loss by epoch: a colour for each label, a line for each run."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 3.1), layout="constrained")
        panels: list[Axes] = list(figure.subplots(1, 2))
        for (label, histories), colour, dash in zip(
            lines.items(), cycle(COLOURS), cycle(DASHES), strict=False
        ):
            for number, history in enumerate(histories):
                name = label if number == 0 else None
                style = {"color": colour, "linestyle": dash, "label": name, "linewidth": 1.4}
                _plot_curve(panels[0], history, "val/accuracy", 100, style)
                _plot_curve(panels[1], history, "val/loss", 1, style)
        panels[0].set_ylabel("validation accuracy, %")
        panels[1].set_ylabel("validation loss, nats")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=min(len(labels), 4), handlelength=3
        )
        return render_svg(figure)


def _plot_curve(
    axes: Axes, history: History, metric: str, scale: float, style: dict[str, Any]
) -> None:
    epochs = [int(entry["epoch"]) + 1 for entry in history]
    values = scale * np.array([entry.get(metric) for entry in history], float)  # None: a gap
    axes.plot(epochs, values, marker="o" if len(history) == 1 else None, **style)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def draw_confusion(matrix: list[list[int]], classes: list[str]) -> str:
    """Draw a confusion matrix: counts, shaded by their share of the true genre."""
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
    """Draw the ROC curve of each genre against the rest, with the area under it."""
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
        legend = {"frameon": True, "framealpha": 0.6, "edgecolor": "none"}  # curves may pass below
        axes.legend(title="genre (area)", loc="lower right", **legend)
        return render_svg(figure)


def _cycle_dashes(period: int) -> Iterator[str]:
    """Yield dashes that differ from line to line, and again each time the colours repeat."""
    for number in cycle(range(period * len(DASHES))):
        yield DASHES[(number + number // period) % len(DASHES)]


def draw_comparison(
    labels: list[str], accuracies: list[float], intervals: list[list[float]]
) -> str:
    """Draw accuracies with their 95 % intervals, one per row; long labels are wrapped."""
    labels = ["\n".join(textwrap.wrap(label, 60)) for label in labels]
    lines = sum(label.count("\n") + 1 for label in labels)
    values = 100 * np.asarray(accuracies)
    bounds = 100 * np.asarray(intervals).T
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 0.8 + 0.13 * len(labels) + 0.15 * lines))
        axes = figure.subplots()
        places = np.arange(len(labels))
        errors = np.abs(bounds - values)
        axes.errorbar(values, places, xerr=errors, fmt="o", color=COLOURS[0], capsize=3)
        axes.set_yticks(places, labels)
        axes.invert_yaxis()
        axes.set(xlabel="accuracy, %, with 95 % interval")
        return render_svg(figure)


def draw_accuracies(rows: Mapping[str, tuple[Sequence[float], Estimate]]) -> str:
    """Draw each seed as a dot and the mean with its interval, one row for each name."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 0.9 + 0.5 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, (values, estimate) in enumerate(rows.values()):
            axes.plot(100 * np.asarray(values), [place + 0.22] * len(values), "o", color=GREY, ms=4)
            middle = 100 * estimate.value
            if estimate.low is not None and estimate.high is not None:
                reach = [[middle - 100 * estimate.low], [100 * estimate.high - middle]]
                axes.errorbar(middle, place, xerr=reach, color=COLOURS[0], capsize=4, fmt="none")
            axes.plot(middle, place, "D", color=COLOURS[0], ms=6)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="accuracy, %, with 95 % interval")
        return render_svg(figure)


def draw_impact(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Draw accuracies and their means by hyperparameter value, one panel per hyperparameter."""
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    with mpl.rc_context({**STYLE, "axes.grid.axis": "y"}):
        figure = Figure(figsize=(7.5, 2.7 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for panel, (name, values) in zip(axes.flat, panels.items(), strict=False):
            for place, accuracies in enumerate(values.values()):
                _draw_strip(panel, place, 100 * np.sort(accuracies))
            panel.set_xticks(range(len(values)), list(values))
            panel.set(xlabel=name, xlim=(-0.5, len(values) - 0.5))
            panel.margins(y=0.12)
        for panel in axes.flat[len(panels) :]:
            panel.set_axis_off()
        for panel in axes[:, 0]:
            panel.set_ylabel("validation accuracy, %")
        return render_svg(figure)


def _draw_strip(axes: Axes, place: int, accuracies: np.ndarray) -> None:
    """Draw dots side by side, in an order that does not depend on their height, and their mean."""
    spread = np.random.default_rng(0).permutation(np.linspace(-0.26, 0.26, len(accuracies)))
    offsets = spread if len(accuracies) > 1 else np.zeros(1)
    axes.plot(place + offsets, accuracies, "o", color=COLOURS[0], markersize=3.2, alpha=0.55)
    middle = accuracies.mean()
    axes.plot([place - 0.36, place + 0.36], [middle] * 2, color=COLOURS[1], linewidth=1.8)
    above = axes.get_xaxis_transform()  # x in data, y in heights of the panel
    axes.text(place, 1.02, f"{middle:.1f}", transform=above, ha="center", color=COLOURS[1], size=8)
