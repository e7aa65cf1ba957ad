"""Section VI of the paper: the final model (Table IX, Figs. 6 and 7)."""

from collections.abc import Sequence

import numpy as np

from genreclf import paper
from genreclf.evaluation.intervals import (
    compute_mean,
    estimate_accuracy,
    estimate_recall,
)
from genreclf.evaluation.runs import Run
from genreclf.figures import curves
from genreclf.report import cells
from genreclf.report.section import MEASURED, PAPER, Column, Picture, Section, Table
from genreclf.studies.settings import TEST
from genreclf.studies.study import Study

METRICS = ("precision", "recall", "f1")


def build_final_table(study: Study) -> Section:
    """Build Table IX."""
    phase = cells.find_phase(study, TEST)
    runs = _select_final_runs(study)
    classes = runs[0].result["data"]["classes"] if runs else []
    same = set(classes) == set(paper.CLASSES) or not runs
    columns = [Column("genre"), *[Column("printed as", PAPER, text=True)] * same]
    for name in ("precision", "recall", "F1"):
        columns += [Column(name, PAPER), Column(name, MEASURED)]
        columns += [Column("95 % interval, %", MEASURED)] * (name == "recall")
    columns += [Column("tracks", PAPER), Column("tracks", MEASURED)]
    genres = [genre.true for genre in paper.GENRES] if same else classes
    rows = [_make_genre_row(name, runs, same) for name in sorted(genres)]
    rows += _make_average_rows(runs, same)
    notes = ["These genres are not the paper's, so only the paper's averages are shown."]
    if same:
        notes = [
            "The paper prints the results of each genre under another genre's name: its scripts "
            "number the genres by FMA's ids and then name them in alphabetical order. Each row "
            "here shows the same genre for both."
        ]
    if study.tested:
        notes.append(
            f"The model is the winner of the phase “{study.tested}”, tested as it was trained "
            "there: no model is trained for this table."
        )
    if runs and runs[0].result["tested_on"] != "test":
        notes.append(
            "These results are on the validation part, on which choices were made, so they are "
            "optimistic."
        )
    tests = [run.result["test"] for run in runs]
    if runs and all("mean_average_precision" in test for test in tests):
        top, precision = (
            cells.average([test[name] for test in tests])
            for name in ("top3_accuracy", "mean_average_precision")
        )
        notes.append(
            f"Measured, but not by the paper: top-3 accuracy {cells.format_percent(top)}"
            f"{'' if top is None else ' %'}, mean average precision "
            f"{cells.format_decimal(precision, 3)}."
        )
    return Section(
        "table-9",
        "Table IX: the final model by genre",
        table=Table(columns, rows),
        notes=[*notes, *cells.list_remarks(phase)],
        command=cells.format_command(phase),
    )


def _select_final_runs(study: Study) -> list[Run]:
    """Select the runs of the final model; none before they are tested."""
    return [run for point in cells.find_phase(study, TEST).points for run in point.runs]


def _make_genre_row(name: str, runs: Sequence[Run], same: bool) -> list[str]:
    printed = paper.BY_TRUE_NAME.get(name) if same else None
    found = [run.result["test"]["per_genre"][name] for run in runs]
    row = [name, *[printed.printed if printed else cells.NONE] * same]
    for metric in METRICS:
        row.append(cells.format_decimal(getattr(printed, metric, None)))
        row.append(_format_mean([each[metric] for each in found if each["support"]]))
        if metric == "recall":
            row.append(cells.format_bounds(estimate_recall(runs, name)) if runs else cells.NONE)
    support = f"{compute_mean([each['support'] for each in found]):g}" if found else cells.NONE
    return [*row, str(printed.support) if printed else cells.NONE, support]


def _format_mean(values: Sequence[float]) -> str:
    return cells.format_decimal(compute_mean(values)) if values else cells.NONE


def _make_average_rows(runs: Sequence[Run], same: bool) -> list[list[str]]:
    """Make the rows of macro average, weighted average and accuracy."""
    blank, rows = [""] * same, []
    tracks = f"{compute_mean([run.result['test']['n'] for run in runs]):g}" if runs else cells.NONE
    counts = [f"{paper.TEST_TRACKS:,}", tracks]
    for name, weighted in (("macro average", False), ("weighted average", True)):
        row = [name, *blank]
        for metric, printed in zip(METRICS, paper.AVERAGES, strict=True):
            tests = [run.result["test"]["per_genre"] for run in runs]
            values = [_average_genres(per_genre, metric, weighted) for per_genre in tests]
            row += [cells.format_decimal(printed), _format_mean(values)]
            row += [cells.NONE] * (metric == "recall")
        rows.append([*row, *counts])
    measured, bounds = cells.NONE, cells.NONE
    if runs:
        accuracy = estimate_accuracy(runs, "test")
        measured = f"{cells.format_percent(accuracy.value)} %"
        bounds = cells.format_bounds(accuracy)
    none, printed = [cells.NONE] * 2, f"{cells.format_percent(paper.TEST_ACCURACY)} %"
    rows.append(["accuracy", *blank, *none, printed, measured, bounds, *none, *counts])
    return rows


def _average_genres(per_genre: dict[str, dict[str, float]], metric: str, weighted: bool) -> float:
    """Average over the genres that were tested."""
    tested = [each for each in per_genre.values() if each["support"]]
    weights = [each["support"] if weighted else 1 for each in tested]
    return float(np.average([each[metric] for each in tested], weights=weights))


def build_confusion_figure(study: Study) -> Section:
    """Build Fig. 6."""
    runs = cells.collect_best_runs(study)
    title = "Fig. 6: confusion matrix on the validation part"
    if not runs:
        return Section("fig-6", title, ["Not run yet."])
    val, classes = runs[0].result["val"], runs[0].result["data"]["classes"]
    caption = (
        f"Best configuration, {val['n']} validation tracks{_name_seed(runs)}: counts, shaded by "
        "their share of the true genre."
    )
    picture = Picture("fig-6", curves.draw_confusion(val["confusion"], classes), caption)
    return Section("fig-6", title, pictures=[picture], notes=_list_true_names(classes))


def build_roc_figure(study: Study) -> Section:
    """Build Fig. 7."""
    runs = _select_final_runs(study)
    title = "Fig. 7: ROC curves of the final model"
    if not runs:
        remarks = cells.list_remarks(cells.find_phase(study, TEST))
        return Section("fig-7", title, notes=remarks)
    part = "test" if runs[0].result["tested_on"] == "test" else "validation"
    caption = (
        f"Each genre against the rest on the {part} part{_name_seed(runs)}; the area under the "
        "curve is in brackets."
    )
    picture = Picture("fig-7", curves.draw_roc_curves(runs[0].predictions), caption)
    classes = runs[0].result["data"]["classes"]
    return Section("fig-7", title, pictures=[picture], notes=_list_true_names(classes))


def _name_seed(runs: Sequence[Run]) -> str:
    """Name the seed that a figure shows, if there are several."""
    return f" (seed {runs[0].result['config']['seed']})" if len(runs) > 1 else ""


def _list_true_names(classes: Sequence[str]) -> list[str]:
    if set(classes) != set(paper.CLASSES):
        return []
    pairs = ", ".join(f"{genre.printed} is {genre.true}" for genre in paper.GENRES)
    return [f"The names here are the true ones. In the paper's figure, {pairs}."]
