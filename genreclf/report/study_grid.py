"""Section V-D of the paper: the grid search (Table VI, Fig. 5)."""

from collections.abc import Sequence
from typing import Any

from genreclf import paper
from genreclf.figures import comparison
from genreclf.report import cells
from genreclf.report.section import MEASURED, PAPER, Column, Picture, Section, Table
from genreclf.studies.study import Phase, Point, Study, rank_points

KEYS = {  # of the config, by the names of the paper
    "optimizer.beta2": "β2",
    "model.cnn_dropout": "CNN dropout",
    "model.classifier_dropout": "classifier dropout",
    "optimizer.weight_decay": "weight decay",
}


def top(study: Study) -> Section:
    """Table VI."""
    phase = cells.find_phase(study, "grid")
    order = rank_points(phase.points, study.metric or "val/accuracy")
    columns = [
        Column("configuration"),
        *(Column(name) for name in KEYS.values()),
        Column("val accuracy, %", PAPER),
        Column("val accuracy, %", MEASURED),
        Column("95 % interval", MEASURED),
        Column("rank", MEASURED),
    ]
    rows = [_printed(number, point, order) for number, point in enumerate(paper.GRID)]
    rows.append(_baseline(study))
    for number, point in enumerate(order[:3]):
        settings = [_text(cells.select_point(point.runs[0].result["config"], key)) for key in KEYS]
        name = cells.format_label(phase, point, f"measured, rank {number + 1}")
        rows.append([name, *settings, cells.NONE, *cells.format_measured(point), str(number + 1)])
    notes = [
        "Each of the paper's configurations stands beside what the same configuration gave here.",
        "The baseline is the net that was best in Table III, with dropouts of 0.3.",
        "The best of many runs reads too high: it was chosen for a figure that is part chance.",
        *cells.list_remarks(phase),
    ]
    return Section(
        *("table-6", "Table VI: the best of the grid", []),
        Table(columns, rows),
        notes=notes,
        command=cells.format_command(phase),
    )


def _text(value: Any) -> str:
    return cells.NONE if value is None else f"{value:g}"


def _printed(number: int, printed: paper.GridPoint, order: Sequence[Point]) -> list[str]:
    """A row of the paper, with what its configuration gave here."""
    score, *settings = printed
    measured = [cells.NONE] * 3
    for rank, point in enumerate(order):
        config = point.runs[0].result["config"]
        if [cells.select_point(config, key) for key in KEYS] == settings:
            measured = [*cells.format_measured(point), f"{rank + 1} of {len(order)}"]
    name = f"paper, rank {number + 1}"
    return [name, *map(_text, settings), cells.format_percent(score), *measured]


def _baseline(study: Study) -> list[str]:
    """The best net before any tuning."""
    point = cells.find_phase(study, "models").chosen
    settings, measured = ["N/A", "0.3", "0.3", "N/A"], [cells.NONE] * 2
    if point is not None:
        config = point.runs[0].result["config"]
        settings = [_text(cells.select_point(config, key)) for key in KEYS]
        measured = cells.format_measured(point)
    return ["baseline", *settings, cells.format_percent(paper.BASELINE), *measured, cells.NONE]


def impact(study: Study) -> Section:
    """Fig. 5."""
    phase = cells.find_phase(study, "grid")
    keys = list(dict.fromkeys(text.partition("=")[0] for p in phase.points for text in p.overrides))
    panels = {KEYS.get(key, key): _by_value(phase, key) for key in keys}
    panels = {name: values for name, values in panels.items() if len(values) > 1}
    pictures = []
    if panels:
        caption = "Every run a dot, the mean of each value a line, with its figure at the top."
        pictures = [Picture("fig-5", comparison.draw_impact(panels), caption)]
    text = "The paper draws this figure without printing numbers; the numbers here are measured."
    return Section(
        *("fig-5", "Fig. 5: impact of each hyperparameter", [text]),
        pictures=pictures,
        notes=cells.list_remarks(phase),
        command=cells.format_command(phase),
    )


def _by_value(phase: Phase, key: str) -> dict[str, list[float]]:
    """Validation accuracies of the runs with each value of a key."""
    found: dict[str, list[float]] = {}
    for point in phase.points:
        if (value := cells.get_setting(point, key)) is not None and point.runs:
            found.setdefault(value, []).extend(point.list_values("val/accuracy"))
    return found
