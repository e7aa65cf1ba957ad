"""Section V-D of the paper: the grid search (Table VI, Fig. 5)."""

from collections.abc import Sequence
from typing import Any

from genreclf import paper
from genreclf.evaluation.runs import get_key
from genreclf.figures import curves
from genreclf.report import cells
from genreclf.report.section import MEASURED, PAPER, Column, Picture, Section, Table
from genreclf.studies.ranking import rank_points
from genreclf.studies.study import Phase, Point, Study

KEYS = {  # of the config, with the paper's names
    "optimizer.beta2": "β2",
    "model.cnn_dropout": "CNN dropout",
    "model.classifier_dropout": "classifier dropout",
    "optimizer.weight_decay": "weight decay",
}


def build_ranking_table(study: Study) -> Section:
    """Build Table VI."""
    phase = cells.find_phase(study, "grid")
    ranked = rank_points(phase.points, study.metric or "val/accuracy")
    columns = [
        Column("configuration"),
        *(Column(name) for name in KEYS.values()),
        Column("val accuracy, %", PAPER),
        Column("val accuracy, %", MEASURED),
        Column("95 % interval", MEASURED),
        Column("rank", MEASURED),
    ]
    rows = [_make_paper_row(number, printed, ranked) for number, printed in enumerate(paper.GRID)]
    rows.append(_make_baseline_row(study))
    for rank, point in enumerate(ranked[:3], start=1):
        name = cells.format_label(phase, point, f"measured, rank {rank}")
        measured = cells.format_measured(point)
        rows.append([name, *_format_settings(point), cells.NONE, *measured, str(rank)])
    notes = [
        "The paper's configurations are shown with what the same configurations reached here.",
        "The baseline is the best network of Table III, with both dropouts at 0.3.",
        "The best of many runs is optimistic: chance contributes to the accuracy it was chosen by.",
        *cells.list_remarks(phase),
    ]
    return Section(
        "table-6",
        "Table VI: the best of the grid",
        table=Table(columns, rows),
        notes=notes,
        command=cells.format_command(phase),
    )


def _read_settings(point: Point) -> list[Any]:
    config = point.runs[0].result["config"]
    return [cells.get_config_value(config, key) for key in KEYS]


def _format_settings(point: Point) -> list[str]:
    return [
        f"{value:g}" if isinstance(value, int | float) else str(value or cells.NONE)
        for value in _read_settings(point)
    ]


def _make_paper_row(number: int, printed: paper.GridPoint, ranked: Sequence[Point]) -> list[str]:
    """Make a row of the paper, with what its configuration reached here."""
    accuracy, *settings = printed
    measured = [cells.NONE] * 3
    for rank, point in enumerate(ranked, start=1):
        if _read_settings(point) == settings:
            measured = [*cells.format_measured(point), f"{rank} of {len(ranked)}"]
    texts = [f"{value:g}" for value in settings]
    return [f"paper, rank {number + 1}", *texts, cells.format_percent(accuracy), *measured]


def _make_baseline_row(study: Study) -> list[str]:
    """Make the row of the best network before tuning."""
    point = cells.find_phase(study, "models").chosen
    settings, measured = ["N/A", "0.3", "0.3", "N/A"], [cells.NONE] * 2
    if point is not None and point.runs:
        settings, measured = _format_settings(point), cells.format_measured(point)
    return ["baseline", *settings, cells.format_percent(paper.BASELINE), *measured, cells.NONE]


def build_impact_figure(study: Study) -> Section:
    """Build Fig. 5."""
    phase = cells.find_phase(study, "grid")
    keys = list(dict.fromkeys(get_key(text) for p in phase.points for text in p.overrides))
    panels = {KEYS.get(key, key): _group_accuracies(phase, key) for key in keys}
    panels = {name: values for name, values in panels.items() if len(values) > 1}
    pictures = []
    if panels:
        caption = (
            "Each run is a dot; the mean for each value is a line, with its number at the top."
        )
        pictures = [Picture("fig-5", curves.draw_impact(panels), caption)]
    text = "The paper draws this figure without numbers; the numbers here are measured."
    return Section(
        "fig-5",
        "Fig. 5: impact of each hyperparameter",
        [text],
        pictures=pictures,
        notes=cells.list_remarks(phase),
        command=cells.format_command(phase),
    )


def _group_accuracies(phase: Phase, key: str) -> dict[str, list[float]]:
    """Group the validation accuracies of all runs by the value of a key."""
    found: dict[str, list[float]] = {}
    for point in phase.points:
        if (value := cells.get_setting(point, key)) is not None and point.runs:
            found.setdefault(value, []).extend(point.list_values("val/accuracy"))
    return found
