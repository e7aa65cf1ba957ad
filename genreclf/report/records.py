"""The CSV file of finished runs.

The file outlives the runs: each `genreclf summary` adds the runs that it finds, so it can grow over
days and across machines. It is tidy: a line for each run, and a column for each setting that any of
them overrides.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from genreclf import files
from genreclf.errors import InputError
from genreclf.evaluation import runs
from genreclf.evaluation.provenance import shorten_commit
from genreclf.paths import refuse_special
from genreclf.report import groups


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A finished run: a line of the CSV file.

    Args:
        run: name of its folder, which identifies it.
        settings: its overrides, without those that have a column and without locations of files.
            They name the configuration: runs with the same settings are seeds and folds of it.
        dataset: dataset, numbers of genres and tracks, and digest of the table of tracks (not in
            lines of earlier versions); digests of distillation and pretrained files.
        shape: shape of the features, as "bins x frames".
        split: option of the config group `split`.
        split_seed: seed of the split; empty for a split without one.
        fold: number of the fold; empty for a split without folds.
        folds: number of folds; empty for a split without folds, and in lines of earlier versions.
        seed: seed of the run.
        part: the evaluated part, "val" or "test".
        tracks: number of tracks of that part.
        correct: number of tracks that were classified correctly.
        accuracy: their share.
        top3_accuracy: share of tracks whose genre is among the three with the highest scores; None
            if it was not measured.
        f1_macro: macro F1 on that part, from 0 to 1.
        mean_average_precision: mean average precision on that part; None if it was not measured.
        cross_entropy: cross-entropy on that part, in nats.
        parameters: number of parameters of the model.
        epochs: number of trained epochs.
        minutes: training time in minutes.
        commit: commit of the source code.
        device: device used for training; empty if it is not known.
        values: the further columns: value of each setting that a run of the file overrides; empty
            where it has none, or where it was not overridden and the run's folder is gone.
    """

    run: str
    settings: str
    dataset: str
    shape: str
    split: str
    split_seed: str
    fold: str
    folds: str = ""
    seed: int
    part: str
    tracks: int
    correct: int
    accuracy: float
    top3_accuracy: float | None
    f1_macro: float
    mean_average_precision: float | None
    cross_entropy: float
    parameters: int
    epochs: int
    minutes: float
    commit: str
    device: str = ""
    values: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> str:
        """The part of `dataset` that says which tracks there are."""
        return ", ".join(self.dataset.split(", ")[:2])

    @property
    def division(self) -> str:
        """Everything that decides which tracks are in which fold."""
        chosen = groups.split_settings(self.settings).items()
        own = sorted(f"{key}={value}" for key, value in chosen if key.startswith("split."))
        return " ".join([self.data, self.split, self.split_seed, self.folds, *own])


FIXED = [each.name for each in fields(RunRecord) if each.name != "values"]


def make_record(run: runs.Run) -> RunRecord:
    """Make the record of a finished run."""
    result, config = run.result, run.result["config"]
    metrics, settings = result["test"], " ".join(groups.list_settings(result))
    return RunRecord(
        run=run.folder.name,
        settings=settings,
        dataset=_describe_data(result),
        shape=" x ".join(map(str, result["data"]["shape"])),
        split=result["choices"]["split"],
        split_seed=str(config["split"].get("seed", "")),
        fold=str(config["split"].get("number", "")),
        folds=str(config["split"].get("folds", "")),
        seed=config["seed"],
        part=result["tested_on"],
        tracks=metrics["n"],
        correct=round(metrics["accuracy"] * metrics["n"]),
        accuracy=round(metrics["accuracy"], 4),
        top3_accuracy=_round(metrics.get("top3_accuracy")),
        f1_macro=round(metrics["f1_macro"], 4),
        mean_average_precision=_round(metrics.get("mean_average_precision")),
        cross_entropy=round(metrics["loss"], 4),
        parameters=result["params"],
        epochs=len(result["history"]),
        minutes=round(result["seconds"] / 60, 1),
        commit=shorten_commit(result),
        device=result.get("device", ""),
    )


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def update_records(file: Path, found: Iterable[runs.Run]) -> list[RunRecord]:
    """Add runs to the records of a file, replacing those of the same name; return all, in order.

    Raises:
        InputError: the file has other columns.
    """
    new = {run.folder.name: run for run in found}
    records = {record.run: record for record in read_records(file)}
    records |= {name: make_record(run) for name, run in new.items()}
    keys = {key for each in records.values() for key in groups.split_settings(each.settings)}
    keys = {key for key in keys if key not in FIXED and not key.endswith(runs.PLACES)}
    for name, record in records.items():
        own = groups.split_settings(record.settings) | record.values
        if name in new:
            read = {key: groups.read_setting(new[name].result, key) for key in keys}
            own = {key: own[key] if key in own and not read[key] else read[key] for key in keys}
        record.values.update({key: own[key] for key in keys if own.get(key)})
    return sorted(records.values(), key=lambda r: (r.split, r.settings, r.seed, r.fold))


def _describe_data(result: dict[str, Any]) -> str:
    dataset = result["config"]["data"]["_target_"].rpartition(".")[2]
    parts = result["data"]["split"].values()
    tracks = sum(sum(genres.values()) for genres in parts)
    table = f" ({result['data']['table'][:8]})" if "table" in result["data"] else ""
    named = f"{dataset} of {len(result['data']['classes'])} genres, {tracks}{table}"
    read = [f"{name} {digest[:8]}" for name, digest in result.get("sources", {}).items()]
    return ", ".join([named, *read])


def read_records(file: Path) -> list[RunRecord]:
    """Read the records of a file; a missing file has none.

    Raises:
        InputError: the file has other columns.
    """
    if not file.exists():
        return []
    kinds: dict[str, Any] = {each.name: each.type for each in fields(RunRecord)}
    refuse_special(file)
    with file.open(encoding="utf-8", newline="") as text:
        try:
            return [_read_record(row, kinds) for row in csv.DictReader(text)]
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"file={file}: not written by this version of genreclf summary ({error!r}); choose "
                "another file="
            ) from None


def _read_record(row: dict[str, str], kinds: dict[str, Any]) -> RunRecord:
    known: dict[str, Any] = {}
    for name in FIXED:
        if name == "folds" and name not in row:  # an earlier version wrote the file
            continue
        optional = kinds[name] == float | None
        kind = float if optional else kinds[name]
        known[name] = None if optional and not row[name] else kind(row[name])
    return RunRecord(**known, values={k: v for k, v in row.items() if k not in FIXED and v})


def write_records(file: Path, records: Sequence[RunRecord]) -> None:
    """Write the records as CSV: the fields in their order, then the settings by name."""
    text = io.StringIO()
    settings = sorted({key for record in records for key in record.values})
    writer = files.make_csv_writer(text)
    writer.writerow(columns := [*FIXED, *settings])
    for record in records:
        row = asdict(record)
        row |= row.pop("values")
        writer.writerow([row.get(name, "") for name in columns])
    files.write_text(file, text.getvalue())
