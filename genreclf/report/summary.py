"""Tables of the runs in a CSV file. Runs that differ only in seed and fold share a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from genreclf.errors import InputError
from genreclf.evaluation import intervals
from genreclf.evaluation.differences import estimate_count_difference, have_common_tracks
from genreclf.report import cells
from genreclf.report.records import RunRecord


@dataclass(frozen=True)
class TableRow:
    """Runs that differ only in seed and fold: a row of a table, as text."""

    settings: str
    data: str
    accuracy: str
    interval: str
    gap: str
    by_fold: str
    top3_accuracy: str
    f1_macro: str
    mean_average_precision: str
    cross_entropy: str
    seeds: int
    folds: str
    parameters: str
    epochs: str
    minutes: str
    device: str


def make_tables(records: Sequence[RunRecord]) -> list[tuple[str, list[TableRow]]]:
    """Make a table for each split, part and dataset: title and rows, the most accurate first.

    Raises:
        InputError: two runs of a row have the same seed and fold.
    """
    tables = []
    for (split, part, data), group in groupby(sorted(records, key=_name_table), _name_table):
        alike: dict[tuple, dict[tuple, RunRecord]] = {}
        for record in group:
            key = record.settings, record.dataset, record.shape, record.parameters
            other = alike.setdefault(key, {}).setdefault((record.seed, record.fold), record)
            if other is not record:
                _refuse_duplicate(other, record)
        configurations = [list(same.values()) for same in alike.values()]
        ranked = sorted(configurations, key=lambda same: -_estimate_accuracy(same).value)
        rows = [_make_row(same, ranked[0]) for same in ranked]
        name = "test" if part == "test" else "validation"
        tables.append((f"split={split}, {name} part: {data}", rows))
    return tables


def _name_table(record: RunRecord) -> tuple[str, str, str]:
    return record.split, record.part, record.data


def _refuse_duplicate(first: RunRecord, second: RunRecord) -> None:
    raise InputError(
        f"runs {first.run} and {second.run} have the same settings, seed and fold "
        f"({first.settings or 'defaults'}, seed {first.seed}); they differ in something that the "
        "table does not show, such as the location of the data or an experiment that has changed: "
        "delete one of them, its folder and its line in the file"
    )


def _count(record: RunRecord) -> intervals.Count:
    return intervals.Count(record.correct, record.tracks, record.seed, record.fold, record.division)


def _estimate_accuracy(records: Sequence[RunRecord]) -> intervals.Estimate:
    return intervals.estimate_share([_count(record) for record in records])


def _make_row(records: Sequence[RunRecord], best: Sequence[RunRecord]) -> TableRow:
    accuracy, counts = _estimate_accuracy(records), [_count(record) for record in records]
    gap, others = cells.NONE, [_count(record) for record in best]
    if records is not best and have_common_tracks(counts, others):
        found = estimate_count_difference(counts, others)
        gap = f"{cells.format_points(found.value)} ({cells.format_bounds(found, signed=True)})"
    folds = cells.format_folds(counts, records[0].folds)
    records = [records[i] for i in intervals.find_complete(counts)]
    first = records[0]
    return TableRow(
        first.settings or "(defaults)",
        f"{first.dataset}; {first.shape}",
        cells.format_percent(accuracy.value),
        cells.format_bounds(accuracy),
        gap,
        cells.format_fold_range(counts),
        cells.format_percent(cells.average([record.top3_accuracy for record in records])),
        _format_mean([record.f1_macro for record in records]),
        _format_mean([record.mean_average_precision for record in records]),
        _format_mean([record.cross_entropy for record in records])
        if first.parameters  # the scores of a support vector machine are not probabilities
        else cells.NONE,
        len({record.seed for record in records}),
        folds,
        cells.format_parameters(first.parameters),
        cells.format_range(record.epochs for record in records),
        cells.format_decimal(intervals.compute_mean([record.minutes for record in records]), 0),
        ", ".join(sorted({record.device for record in records if record.device})),
    )


def _format_mean(values: Sequence[float | None]) -> str:
    return cells.format_decimal(cells.average(values), 3)
