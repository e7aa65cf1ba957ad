"""`genreclf summary`: finished runs as lines of a CSV file that is kept, and as a table of it.

Runs that differ in seed and fold alone are one row of the table. The file outlives the runs: each
call adds those that it finds, so that a table grows over days and machines.
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

NOT_TOLD = (  # have a column, or say what an archive means
    *("seed", "split", "split.number", "allow_identical", "test"),
    *("data", "data.scale", "data.offset", "data.path", "data.root", "distillation.path"),
)


@dataclass(frozen=True)
class RunRecord:
    """A run, of which the file holds one line.

    Args:
        run: name of its folder, which tells runs apart.
        what: its overrides, less those that are told by the columns, and less places of files.
        data: dataset, number of genres and of tracks; digest of distillation and init files.
        features: shape.
        split: option of the group, and fold where it has folds.
        fold: number, empty without folds.
        seed: of the run.
        part: that the figures are of, "val" or "test".
        tracks: of that part.
        right: how many of them were recognised.
        f1_macro: of that part.
        loss: of that part, in nats.
        parameters: of the net.
        epochs: trained.
        minutes: of training.
        commit: of the source.
        device: that trained; empty where a run of before does not tell.
    """

    run: str
    what: str
    data: str
    features: str
    split: str
    fold: str
    seed: int
    part: str
    tracks: int
    right: int
    f1_macro: float
    loss: float
    parameters: int
    epochs: int
    minutes: float
    commit: str
    device: str = ""


@dataclass(frozen=True)
class TableRow:
    """Runs that differ in seed and fold alone, as the table shows them."""

    what: str
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
    """What is kept of a run."""
    result, config = run.result, run.result["config"]
    part = result["tested_on"]
    figures, split = result["test"], config["split"]
    return RunRecord(
        run=run.folder.name,
        what=_describe_overrides(result["overrides"], config),
        data=_describe_data(result),
        features=" x ".join(map(str, result["data"]["shape"])),
        split=result["choices"]["split"],
        fold=str(split.get("number", "")),
        seed=config["seed"],
        part=part,
        tracks=figures["n"],
        right=round(figures["accuracy"] * figures["n"]),
        f1_macro=round(figures["f1_macro"], 4),
        loss=round(figures["loss"], 4),
        parameters=result["params"],
        epochs=len(result["history"]),
        minutes=round(result["seconds"] / 60, 1),
        commit=runs.shorten_commit(result),
        device=result.get("device", ""),
    )


def _describe_overrides(overrides: Sequence[str], config: Mapping[str, Any]) -> str:
    told = [runs.hide_location(text) for text in overrides if _is_shown(text, config)]
    return " ".join(sorted(told, key=lambda text: (not text.startswith("experiment"), text)))


def _describe_data(result: dict[str, Any]) -> str:
    dataset = result["config"]["data"]["_target_"].rpartition(".")[2]
    parts = result["data"]["split"].values()
    tracks = sum(sum(genres.values()) for genres in parts)
    read = [f"{name} {digest[:8]}" for name, digest in result.get("sources", {}).items()]
    return ", ".join([f"{dataset} of {len(result['data']['classes'])} genres, {tracks}", *read])


def _is_shown(override: str, config: Mapping[str, Any]) -> bool:
    """Whether it tells rows apart."""
    key, _, value = override.lstrip("+~").partition("=")
    match key:
        case "split_seed":  # with a division for each seed, the divisions do not
            return config["split_seed"] != config["seed"]
        case "features":  # of an archive it says what the rows are, not what becomes of them
            return not config["data"]["_target_"].endswith(".Npz")
        case "cache":
            return value == "float16"  # which alone changes numbers
    return key not in NOT_TOLD


def make_tables(lines: Sequence[RunRecord]) -> list[tuple[str, list[TableRow]]]:
    """For each split and part the rows, the most accurate first.

    Raises:
        InputError: two runs of a row have seed and fold in common.
    """
    found = []
    for (split, part), group in groupby(
        sorted(lines, key=lambda line: (line.split, line.part)),
        lambda line: (line.split, line.part),
    ):
        alike: dict[tuple, list[RunRecord]] = {}
        for line in group:
            key = line.what, line.data, line.features, line.parameters
            _check_duplicates(line, alike.setdefault(key, []))
            alike[key].append(line)
        ranked = sorted(alike.values(), key=lambda same: -_estimate_accuracy(same).value)
        rows = [_make_row(same) for same in ranked]
        found.append((f"split={split}, {'test' if part == 'test' else 'validation'} part", rows))
    return found


def _check_duplicates(line: RunRecord, others: Sequence[RunRecord]) -> None:
    for other in others:
        if (line.seed, line.fold) == (other.seed, other.fold):
            raise InputError(
                f"runs {other.run} and {line.run} are of the same row, seed and fold "
                f"({line.what or 'defaults'}, seed {line.seed}); they differ in what no table "
                "tells, such as where the data lie, or in an experiment that has changed: leave "
                "out one, its line and its folder"
            )


def _estimate_accuracy(lines: Sequence[RunRecord]) -> intervals.Estimate:
    """Of each seed over all its folds, then over the seeds."""
    counts: dict[int, list[int]] = {}
    for line in lines:
        count = counts.setdefault(line.seed, [0, 0])
        count[0] += line.right
        count[1] += line.tracks
    return intervals.estimate_share([(right, tracks) for right, tracks in counts.values()])


def _make_row(lines: Sequence[RunRecord]) -> TableRow:
    accuracy, first = _estimate_accuracy(lines), lines[0]
    return TableRow(
        first.what or "(defaults)",
        f"{first.data}; {first.features}",
        cells.format_percent(accuracy.value),
        cells.format_bounds(accuracy),
        cells.format_decimal(intervals.compute_mean([line.f1_macro for line in lines]), 3),
        cells.format_decimal(intervals.compute_mean([line.loss for line in lines]), 3)
        if first.parameters  # what a support vector machine gives are no probabilities
        else cells.NONE,
        len({line.seed for line in lines}),
        _format_range(Counter(line.seed for line in lines).values()),
        f"{first.parameters:,}",
        _format_range(line.epochs for line in lines),
        cells.format_decimal(intervals.compute_mean([line.minutes for line in lines]), 0),
        ", ".join(sorted({line.device for line in lines if line.device})),
    )


def _format_range(numbers: Iterable[int]) -> str:
    """Such as 5, or 1 to 5."""
    ordered = sorted(numbers)
    return " to ".join(map(str, dict.fromkeys((ordered[0], ordered[-1]))))


def read_records(file: Path) -> list[RunRecord]:
    """The lines of a file; none where there is no file.

    Raises:
        InputError: a file of other columns.
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
            raise InputError(f"file={file}: not one of genreclf summary ({error!r})") from None


def write_records(file: Path, lines: Sequence[RunRecord]) -> None:
    """Write what `read` reads."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(RunRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows([asdict(line) for line in lines])
    files.write_text(file, text.getvalue())
