"""Collects finished runs in a CSV file, and makes tables from it.

The file outlives the runs: each `genreclf summary` adds the runs that it finds, so a table can grow
over days and across machines. Runs that differ only in seed and fold share a row of a table.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from genreclf import files
from genreclf.errors import InputError
from genreclf.evaluation import intervals, runs
from genreclf.report import cells

NOT_SHOWN = (  # overrides that have a column, do not affect results or describe an archive
    *("seed", "split", "split.number", "allow_identical", "test"),
    *("data", "data.scale", "data.offset", "data.path", "data.root", "distillation.path"),
)


@dataclass(frozen=True)
class RunRecord:
    """A finished run: a line of the CSV file.

    Args:
        run: name of its folder, which identifies it.
        settings: its overrides, without those that have a column and without locations of files.
        data: dataset, numbers of genres and tracks; digests of distillation and pretrained files.
        features: shape of the features, as "bins x frames".
        split: option of the config group `split`.
        fold: number of the fold; empty for a split without folds.
        seed: seed of the run.
        part: the evaluated part, "val" or "test".
        tracks: number of tracks of that part.
        correct: number of tracks that were classified correctly.
        f1_macro: macro F1 on that part, from 0 to 1.
        loss: cross-entropy on that part, in nats.
        parameters: number of parameters of the model.
        epochs: number of trained epochs.
        minutes: training time in minutes.
        commit: commit of the source code.
        device: device used for training; empty if it is not known.
    """

    run: str
    settings: str
    data: str
    features: str
    split: str
    fold: str
    seed: int
    part: str
    tracks: int
    correct: int
    f1_macro: float
    loss: float
    parameters: int
    epochs: int
    minutes: float
    commit: str
    device: str = ""


@dataclass(frozen=True)
class TableRow:
    """Runs that differ only in seed and fold: a row of a table, as text."""

    settings: str
    data: str
    accuracy: str
    interval: str
    f1_macro: str
    loss: str
    seeds: int
    folds: str
    parameters: str
    epochs: str
    minutes: str
    device: str


def make_record(run: runs.Run) -> RunRecord:
    """Make the record of a finished run."""
    result, config = run.result, run.result["config"]
    metrics = result["test"]
    return RunRecord(
        run=run.folder.name,
        settings=_describe_overrides(result["overrides"], config),
        data=_describe_data(result),
        features=" x ".join(map(str, result["data"]["shape"])),
        split=result["choices"]["split"],
        fold=str(config["split"].get("number", "")),
        seed=config["seed"],
        part=result["tested_on"],
        tracks=metrics["n"],
        correct=round(metrics["accuracy"] * metrics["n"]),
        f1_macro=round(metrics["f1_macro"], 4),
        loss=round(metrics["loss"], 4),
        parameters=result["params"],
        epochs=len(result["history"]),
        minutes=round(result["seconds"] / 60, 1),
        commit=runs.shorten_commit(result),
        device=result.get("device", ""),
    )


def _describe_overrides(overrides: Sequence[str], config: Mapping[str, Any]) -> str:
    shown = [runs.hide_location(text) for text in overrides if _is_shown(text, config)]
    return " ".join(sorted(shown, key=lambda text: (not text.startswith("experiment"), text)))


def _describe_data(result: dict[str, Any]) -> str:
    dataset = result["config"]["data"]["_target_"].rpartition(".")[2]
    parts = result["data"]["split"].values()
    tracks = sum(sum(genres.values()) for genres in parts)
    read = [f"{name} {digest[:8]}" for name, digest in result.get("sources", {}).items()]
    return ", ".join([f"{dataset} of {len(result['data']['classes'])} genres, {tracks}", *read])


def _is_shown(override: str, config: Mapping[str, Any]) -> bool:
    """Whether an override distinguishes rows of the table."""
    key, _, value = override.lstrip("+~").partition("=")
    match key:
        case "split_seed":  # irrelevant if each seed has its own split
            return config["split_seed"] != config["seed"]
        case "features":  # for an archive they only say what its rows are
            return not config["data"]["_target_"].endswith(".Npz")
        case "cache":
            return value == "float16"  # the only one that changes numbers
    return key not in NOT_SHOWN


def make_tables(records: Sequence[RunRecord]) -> list[tuple[str, list[TableRow]]]:
    """Make a table for each split and part: title and rows, the most accurate first.

    Raises:
        InputError: two runs of a row have the same seed and fold.
    """
    tables = []
    for (split, part), group in groupby(
        sorted(records, key=lambda record: (record.split, record.part)),
        lambda record: (record.split, record.part),
    ):
        alike: dict[tuple, list[RunRecord]] = {}
        for record in group:
            key = record.settings, record.data, record.features, record.parameters
            _check_duplicates(record, alike.setdefault(key, []))
            alike[key].append(record)
        ranked = sorted(alike.values(), key=lambda same: -_estimate_accuracy(same).value)
        rows = [_make_row(same) for same in ranked]
        tables.append((f"split={split}, {'test' if part == 'test' else 'validation'} part", rows))
    return tables


def _check_duplicates(record: RunRecord, others: Sequence[RunRecord]) -> None:
    for other in others:
        if (record.seed, record.fold) == (other.seed, other.fold):
            raise InputError(
                f"runs {other.run} and {record.run} have the same settings, seed and fold "
                f"({record.settings or 'defaults'}, seed {record.seed}); they differ in something "
                "that the table does not show, such as the location of the data or an experiment "
                "that has changed: delete one of them, its folder and its line in the file"
            )


def _estimate_accuracy(records: Sequence[RunRecord]) -> intervals.Estimate:
    """Estimate the accuracy from each seed's accuracy over all its folds."""
    counts: dict[int, list[int]] = {}
    for record in records:
        count = counts.setdefault(record.seed, [0, 0])
        count[0] += record.correct
        count[1] += record.tracks
    return intervals.estimate_share([(correct, tracks) for correct, tracks in counts.values()])


def _make_row(records: Sequence[RunRecord]) -> TableRow:
    accuracy, first = _estimate_accuracy(records), records[0]
    return TableRow(
        first.settings or "(defaults)",
        f"{first.data}; {first.features}",
        cells.format_percent(accuracy.value),
        cells.format_bounds(accuracy),
        cells.format_decimal(intervals.compute_mean([record.f1_macro for record in records]), 3),
        cells.format_decimal(intervals.compute_mean([record.loss for record in records]), 3)
        if first.parameters  # the scores of a support vector machine are not probabilities
        else cells.NONE,
        len({record.seed for record in records}),
        _format_range(Counter(record.seed for record in records).values()),
        f"{first.parameters:,}",
        _format_range(record.epochs for record in records),
        cells.format_decimal(intervals.compute_mean([record.minutes for record in records]), 0),
        ", ".join(sorted({record.device for record in records if record.device})),
    )


def _format_range(numbers: Iterable[int]) -> str:
    """Format the smallest and the largest number, for example "5" or "1 to 5"."""
    ordered = sorted(numbers)
    return " to ".join(map(str, dict.fromkeys((ordered[0], ordered[-1]))))


def read_records(file: Path) -> list[RunRecord]:
    """Read the records of a file; a missing file has none.

    Raises:
        InputError: the file has other columns.
    """
    if not file.exists():
        return []
    kinds: dict[str, Any] = {field.name: field.type for field in fields(RunRecord)}
    with file.open(encoding="utf-8", newline="") as text:
        try:
            return [
                RunRecord(**{name: kinds[name](value) for name, value in row.items()})
                for row in csv.DictReader(text)
            ]
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"file={file}: not written by genreclf summary ({error!r}); choose another file="
            ) from None


def write_records(file: Path, records: Sequence[RunRecord]) -> None:
    """Write the records as CSV, the columns in the order of the fields."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(RunRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows([asdict(record) for record in records])
    files.write_text(file, text.getvalue())
