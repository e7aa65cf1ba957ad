"""The comparison of all points that a study tested on folds, whichever phase they belong to."""

from typing import NamedTuple

from genreclf.evaluation.differences import estimate_difference
from genreclf.evaluation.intervals import (
    Estimate,
    average_runs,
    count_accuracy,
    estimate_accuracy,
)
from genreclf.evaluation.runs import Run
from genreclf.report import cells, study_notes
from genreclf.report.groups import list_settings
from genreclf.report.section import MEASURED, Column, Section, Table
from genreclf.studies.study import Study


class Tested(NamedTuple):
    """The finished runs of one configuration, on several folds and with all seeds.

    Args:
        name: the phase that trained them, and the overrides that distinguish them from others.
        runs: in the order of the phase's points.
        accuracy: on all folds, with its interval.
    """

    name: str
    runs: list[Run]
    accuracy: Estimate


def rank_tested(study: Study) -> list[Tested]:
    """List what a study compares on folds, the highest accuracy first; nothing if it chooses."""
    found = []
    if study.metric is not None:
        return found
    for phase in filter(study_notes.has_folds, study.phases):
        for points in study_notes.merge_folds(phase).values():
            if runs := [run for point in points for run in point.runs]:
                settings = list_settings(runs[0].result)
                others = [text for text in settings if not text.startswith("phase=")]
                name = " ".join([phase.name, *others])
                found.append(Tested(name, runs, estimate_accuracy(runs, "test")))
    return sorted(found, key=lambda each: -each.accuracy.value)


def build_comparison_table(ranked: list[Tested]) -> Section:
    """Build the table of what `rank_tested` lists."""
    columns = [
        Column("phase and settings"),
        Column("accuracy on all folds, %", MEASURED),
        Column("95 % interval", MEASURED),
        Column("minus the first, points", MEASURED),
        Column("by fold, %", MEASURED),
        Column("seeds", MEASURED),
        Column("parameters", MEASURED),
        Column("time of a run", MEASURED),
    ]
    title, text = "Comparison on the folds", ["The most accurate first. Differences are paired."]
    if not ranked:
        return Section("comparison", title, ["Not run yet."])
    notes = [
        "Times are those of training; they depend on the machine and "
        "do not include the extraction of features, which all runs share."
    ]
    rows = [_make_row(each, ranked[0]) for each in ranked]
    return Section("comparison", title, text, Table(columns, rows), notes=notes)


def _make_row(tested: Tested, best: Tested) -> list[str]:
    gap, counts = cells.NONE, [count_accuracy(run, "test") for run in tested.runs]
    if tested is not best:
        found = estimate_difference(tested.runs, best.runs, "test")
        gap = f"{cells.format_points(found.value)} ({cells.format_bounds(found, signed=True)})"
    return [
        tested.name,
        cells.format_percent(tested.accuracy.value),
        cells.format_bounds(tested.accuracy),
        gap,
        cells.format_fold_range(counts),
        str(cells.count_seeds(tested.runs)),
        cells.format_parameters(tested.runs[0].result["params"]),
        cells.format_duration(average_runs(tested.runs, lambda result: result["seconds"])),
    ]
