"""Section VI of the paper: the final model (Table IX, Figs. 6 and 7)."""

from collections.abc import Sequence

import numpy as np

from genreclf import paper
from genreclf.evaluation.intervals import Estimate, compute_mean, estimate_accuracy, estimate_recall
from genreclf.evaluation.runs import Run
from genreclf.figures import curves
from genreclf.report import cells
from genreclf.report.section import MEASURED, PAPER, Column, Picture, Section, Table
from genreclf.studies.study import Study

FIGURES = ("precision", "recall", "f1")


def final(study: Study) -> Section:
    """Table IX."""
    phase = cells.find_phase(study, "final")
    runs = cells.collect_best_runs(study) if any(point.runs for point in phase.points) else []
    classes = runs[0].result["data"]["classes"] if runs else []
    same = set(classes) == set(paper.CLASSES) or not runs
    columns = [Column("genre"), *[Column("printed there as", PAPER, text=True)] * same]
    for name in ("precision", "recall", "F1"):
        columns += [Column(name, PAPER), Column(name, MEASURED)]
        columns += [Column("95 % interval, %", MEASURED)] * (name == "recall")
    columns += [Column("tracks", PAPER), Column("tracks", MEASURED)]
    genres = [genre.true for genre in paper.GENRES] if same else classes
    rows = [_tested(name, runs, same) for name in sorted(genres)]
    rows += _averages(runs, same)
    notes = [
        "The paper prints each genre's figures under the name of another: its scripts number the "
        "genres by FMA's ids and then name them by the alphabet. Here each stands beside what was "
        "measured of the same genre."
        if same
        else "These genres are not the paper's, so only its averages are shown.",
        *_part_note(runs),
        *cells.list_remarks(phase),
    ]
    return Section(
        *("table-9", "Table IX: the final model by genre", []),
        Table(columns, rows),
        notes=notes,
        command=cells.format_command(phase),
    )


def _part_note(runs: Sequence[Run]) -> list[str]:
    if not runs or runs[0].result["tested_on"] == "test":
        return []
    return ["These figures are of the validation part, on which choices were made: too high."]


def _tested(name: str, runs: Sequence[Run], same: bool) -> list[str]:
    """A genre's row of Table IX."""
    printed = paper.BY_TRUE_NAME.get(name) if same else None
    found = [run.result["test"]["per_genre"][name] for run in runs]
    row = [name, *[printed.printed if printed else cells.NONE] * same]
    for figure in FIGURES:
        row += [
            cells.format_decimal(getattr(printed, figure, None)),
            _decimal([e[figure] for e in found]),
        ]
        if figure == "recall":
            row.append(cells.format_bounds(estimate_recall(found)) if found else cells.NONE)
    support = f"{compute_mean([each['support'] for each in found]):g}" if found else cells.NONE
    return [*row, str(printed.support) if printed else cells.NONE, support]


def _decimal(values: Sequence[float]) -> str:
    """The mean, if there is one."""
    return cells.format_decimal(compute_mean(values)) if values else cells.NONE


def _averages(runs: Sequence[Run], same: bool) -> list[list[str]]:
    """Macro and weighted averages, and the accuracy."""
    blank = [""] * same
    rows = []
    total = f"{compute_mean([run.result['test']['n'] for run in runs]):g}" if runs else cells.NONE
    for name, weighted in (("macro average", False), ("weighted average", True)):
        row = [name, *blank]
        for figure, printed in zip(FIGURES, paper.AVERAGES, strict=True):
            values = [_average(run.result["test"]["per_genre"], figure, weighted) for run in runs]
            row += [cells.format_decimal(printed), _decimal(values)]
            row += [cells.NONE] * (figure == "recall")
        rows.append([*row, f"{paper.TEST_TRACKS:,}", total])
    score = estimate_accuracy(runs, "test") if runs else Estimate(0)
    percent = f"{cells.format_percent(score.value)} %" if runs else cells.NONE
    right = [f"{cells.format_percent(paper.TEST_ACCURACY)} %", percent, cells.format_bounds(score)]
    last = [cells.NONE] * 2
    return [*rows, ["accuracy", *blank, *last, *right, *last, f"{paper.TEST_TRACKS:,}", total]]


def _average(per_genre: dict[str, dict[str, float]], figure: str, weighted: bool) -> float:
    """Over the genres that were tested."""
    tested = [each for each in per_genre.values() if each["support"]]
    weights = [each["support"] if weighted else 1 for each in tested]
    return float(np.average([each[figure] for each in tested], weights=weights))


def confusion(study: Study) -> Section:
    """Fig. 6."""
    runs = cells.collect_best_runs(study)
    title = "Fig. 6: confusion matrix on the validation part"
    if not runs:
        return Section("fig-6", title, ["Not run yet."])
    val, classes = runs[0].result["val"], runs[0].result["data"]["classes"]
    svg = curves.draw_confusion(val["confusion"], classes)
    caption = f"Best configuration, {val['n']} validation tracks: counts, shaded by the share of "
    picture = Picture("fig-6", svg, f"{caption}the true genre{_seed(runs)}.")
    return Section("fig-6", title, pictures=[picture], notes=_names_note(classes))


def roc(study: Study) -> Section:
    """Fig. 7."""
    phase = cells.find_phase(study, "final")
    runs = cells.collect_best_runs(study) if any(point.runs for point in phase.points) else []
    title = "Fig. 7: ROC curves of the final model"
    if not runs:
        return Section("fig-7", title, notes=cells.list_remarks(phase))
    part = "test" if runs[0].result["tested_on"] == "test" else "validation"
    caption = f"Each genre against the rest, on the {part} part; in brackets the area below"
    picture = Picture(
        "fig-7", curves.draw_roc_curves(runs[0].predictions), f"{caption}{_seed(runs)}."
    )
    classes = runs[0].result["data"]["classes"]
    return Section("fig-7", title, pictures=[picture], notes=_names_note(classes))


def _seed(runs: Sequence[Run]) -> str:
    return f"; seed {runs[0].result['config']['seed']}" if len(runs) > 1 else ""


def _names_note(classes: Sequence[str]) -> list[str]:
    if set(classes) != set(paper.CLASSES):
        return []
    pairs = ", ".join(f"{genre.printed} is {genre.true}" for genre in paper.GENRES)
    return [f"True names here. In the paper's figure: {pairs}."]
