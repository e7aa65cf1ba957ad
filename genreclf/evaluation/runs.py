"""Run folders: `config.yaml`, `best.ckpt`, `predictions.csv` and, written last, `result.json`."""

import csv
import glob
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import yaml

from genreclf.errors import InputError
from genreclf.files import make_csv_writer, read_json, write_text
from genreclf.paths import locate_path, refuse_special

RESULT = "result.json"
FAILURE = "failure.json"
PREDICTIONS = "predictions.csv"
PAGE = "report.html"
PLACES = (".path", ".root", ".lists", ".checkpoint", ".runs")  # keys of paths on one machine


def get_key(override: str) -> str:
    """Return the key of an override: `split_seed` for `+split_seed=1`."""
    return override.partition("=")[0].lstrip("+~")


def hide_location(override: str) -> str:
    """Replace a path in an override by "...": it means nothing on another machine."""
    key, _, _ = override.partition("=")
    return f"{key}=..." if key.endswith(PLACES) else override


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the resolved config of a run."""
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))


@dataclass(frozen=True)
class Predictions:
    """Scores of the tested tracks.

    Args:
        track_ids: ids of the n tracks.
        labels: true classes, int (n,), index into `classes`.
        scores: class probabilities, float (n, classes).
        classes: names of the genres.
    """

    track_ids: list[str]
    labels: np.ndarray
    scores: np.ndarray
    classes: list[str]

    def write(self, path: Path) -> None:
        """Write them as CSV: track_id, genre, predicted, then one column per class."""
        text = io.StringIO()
        writer = make_csv_writer(text)
        writer.writerow(["track_id", "genre", "predicted", *self.classes])
        for track_id, label, scores in zip(self.track_ids, self.labels, self.scores, strict=True):
            names = [track_id, self.classes[label], self.classes[scores.argmax()]]
            writer.writerow([*names, *(f"{score:.9g}" for score in scores)])
        write_text(path, text.getvalue())

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """Read what `write` wrote."""
        refuse_special(path)
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        classes = header[3:]
        labels = np.array([classes.index(row[1]) for row in rows], dtype=int)
        scores = np.array([row[3:] for row in rows], dtype=float).reshape(len(rows), len(classes))
        return cls([row[0] for row in rows], labels, scores, classes)


class Run:
    """A finished run.

    Args:
        folder: the run's folder.
        result: content of `result.json`: among others `config` (resolved), `choices` (option of
            each group), `overrides`, `data`, `history` (metrics of each epoch), `val` and `test`
            (metrics of the kept epoch: accuracy, f1_macro, ...).
        predictions: scores of the tested tracks; None reads them from the folder when they are
            needed.
    """

    def __init__(
        self, folder: Path, result: dict[str, Any], predictions: Predictions | None = None
    ) -> None:
        self.folder, self.result = folder, result
        if predictions is not None:
            self.predictions = predictions

    @cached_property
    def predictions(self) -> Predictions:
        """Scores of the tested tracks."""
        try:
            return Predictions.read(self.folder / PREDICTIONS)
        except (csv.Error, ValueError, KeyError, IndexError) as error:
            raise InputError(f"{self.folder}: {PREDICTIONS} is damaged ({error})") from None

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Read the run in a folder.

        Raises:
            InputError: the folder holds no finished run, or a damaged one.
        """
        try:
            result = read_json(folder / RESULT)
            (folder / PREDICTIONS).stat()
        except FileNotFoundError as error:
            raise InputError(f"{folder}: no finished run ({error.filename} is missing)") from None
        except ValueError as error:
            raise InputError(f"{folder}: {RESULT} is damaged ({error})") from None
        return cls(folder, result)

    def read_correct(self) -> dict[str, bool]:
        """Read by track id whether each tested track was classified correctly.

        This is faster than reading the scores.

        Raises:
            InputError: the file of predictions is damaged.
        """
        refuse_special(self.folder / PREDICTIONS)
        try:
            with (self.folder / PREDICTIONS).open(encoding="utf-8", newline="") as file:
                rows = csv.reader(file)
                next(rows)  # not the first line: a genre may have a line break
                return {name: genre == found for name, genre, found, *_ in rows}
        except (csv.Error, ValueError, StopIteration) as error:
            raise InputError(f"{self.folder}: {PREDICTIONS} is damaged ({error})") from None


class Runs(Sequence[Run]):
    """Finished runs, in the order of their folders; a slice is also a `Runs`."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs = tuple(runs)

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...

    @overload
    def __getitem__(self, index: slice) -> "Runs": ...

    def __getitem__(self, index: int | slice) -> "Run | Runs":
        found = self._runs[index]
        return Runs(found) if isinstance(found, tuple) else found

    def __repr__(self) -> str:
        return f"Runs({[str(run.folder) for run in self._runs]})"

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each run.

        Columns: `folder`; `tested_on`; the metrics as `val/accuracy`, `test/f1_macro`,
        `test/top3_accuracy`, ... (no `test/...` if the run was not tested); `params`, `best_epoch`
        (from 0), `seconds`, `device`; and the resolved config, with keys such as `config.seed` and
        `config.optimizer.lr`.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ImportError(
                "Runs.to_frame needs an extra: pip install 'genreclf[pandas]'"
            ) from None
        return pd.DataFrame([_flatten_run(run) for run in self])


def _flatten_run(run: Run) -> dict[str, Any]:
    result = run.result
    parts = {"val": result["val"], result["tested_on"]: result["test"]}
    names = ("accuracy", "top3_accuracy", "f1_macro", "mean_average_precision", "loss")
    return {
        "folder": str(run.folder),
        "tested_on": result["tested_on"],
        **{f"{part}/{name}": parts[part].get(name) for part in parts for name in names},
        **{key: result.get(key) for key in ("params", "best_epoch", "seconds", "device")},
        **_flatten_config(result["config"], "config."),
    }


def _flatten_config(config: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten_config(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def read_runs(
    folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], setting: str = "runs"
) -> Runs:
    """Read all finished runs in and below one or several folders.

    Args:
        folders: one or several folders, or patterns of them, such as "outputs/train" or the folder
            of a single run.
        setting: the config key they come from, for error messages.

    Raises:
        InputError: a folder is missing, there is no finished run in them, or one is damaged.
    """
    places = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
    found: set[Path] = set()
    for place in map(locate_path, places):
        matching = [place] if place.is_dir() else [*map(Path, glob.glob(str(place)))]  # noqa: PTH207
        if not matching:
            raise InputError(f"{setting}={place}: no such folder")
        found |= {file.parent for each in matching for file in each.rglob(RESULT)}
    if not found:
        named = ", ".join(map(str, places))
        raise InputError(f"{setting}={named}: no finished run (no {RESULT}) in there")
    return Runs(Run.read(folder) for folder in sorted(found))
