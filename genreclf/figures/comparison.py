"""Figures of a study, as SVG text in the style of `figures`."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genreclf.evaluation.intervals import Estimate
from genreclf.figures import spectrogram as drawing
from genreclf.figures.style import COLOURS, DASHES, STYLE, render_svg

History = list[dict[str, Any]]  # of `result.json`: a dict an epoch
GREY = "#7F7F7F"


def draw_learning_curves(lines: dict[str, list[History]]) -> str:
    """Validation accuracy and loss by epoch: a colour and a dash each label, a line each run."""
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
        for panel in panels:
            panel.set_xlabel("epoch")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=min(len(labels), 4), handlelength=3
        )
        return render_svg(figure)


def _plot_curve(
    axes: Axes, history: History, metric: str, scale: float, style: dict[str, Any]
) -> None:
    epochs = [int(entry["epoch"]) + 1 for entry in history]
    values = scale * np.array([entry[metric] for entry in history], float)  # None: a gap
    axes.plot(epochs, values, marker="o" if len(history) == 1 else None, **style)


def draw_impact(panels: dict[str, dict[str, list[float]]]) -> str:
    """Accuracies by the value of each hyperparameter, a panel each; the means are lines."""
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
    """Dots side by side, in an order that has nothing to do with their height; and their mean."""
    spread = np.random.default_rng(0).permutation(np.linspace(-0.26, 0.26, len(accuracies)))
    offsets = spread if len(accuracies) > 1 else np.zeros(1)
    axes.plot(place + offsets, accuracies, "o", color=COLOURS[0], markersize=3.2, alpha=0.55)
    middle = accuracies.mean()
    axes.plot([place - 0.36, place + 0.36], [middle] * 2, color=COLOURS[1], linewidth=1.8)
    above = axes.get_xaxis_transform()  # x in data, y in heights of the panel
    axes.text(place, 1.02, f"{middle:.1f}", transform=above, ha="center", color=COLOURS[1], size=8)


def draw_accuracies(rows: Mapping[str, tuple[Sequence[float], Estimate]]) -> str:
    """Each seed a dot, the mean a bar with its interval, one name under the other."""
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


def draw_spectrogram(clip: drawing.Clip) -> str:
    """Features of a clip, with the axes that they have."""
    return render_svg(drawing.draw_clip(clip))


def draw_features(values: np.ndarray, seconds: float) -> str:
    """Features (bins, frames) of which no more is known than how long they last."""
    without_grid: dict[Any, Any] = {**STYLE, "axes.grid": False}
    with mpl.rc_context(without_grid):
        figure = Figure(figsize=(4.5, 2.2), layout="constrained")
        axes = figure.subplots()
        extent = (0, seconds, -0.5, len(values) - 0.5)
        colours = mpl.colormaps["magma"].resampled(drawing.LEVELS)
        image = axes.imshow(
            values, colours, origin="lower", aspect="auto", extent=extent, interpolation="none"
        )
        axes.set(xlabel="time, s", ylabel="bin")
        figure.colorbar(image, ax=axes, label="value")
        return render_svg(figure)
