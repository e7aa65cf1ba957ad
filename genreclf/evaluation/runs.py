"""What a run leaves: `config.yaml`, `best.ckpt`, `predictions.csv` and, last, `result.json`."""

import csv
import io
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from genreclf.errors import InputError
from genreclf.files import read_json, write_text

RESULT = "result.json"
FAILURE = "failure.json"
PREDICTIONS = "predictions.csv"
PAGE = "report.html"
LIBRARIES = ("genreclf", "torch", "torchaudio", "pytorch-lightning", "librosa", "h5py", "numpy")
PLACES = (".path", ".root", ".checkpoint", ".runs")  # on one machine


def hide_location(override: str) -> str:
    """The same, without where files lie on one machine, which tells nothing on another."""
    key, _, _ = override.partition("=")
    return f"{key}=..." if key.endswith(PLACES) else override


def collect_provenance() -> dict[str, Any]:
    """Commit of the source (None outside a checkout) and versions of what computes."""
    versions = {"python": platform.python_version()}
    return {
        "commit": _find_commit(),
        "versions": versions | {name: version(name) for name in LIBRARIES},
    }


def _find_commit() -> str | None:
    """The commit, with "-dirty" where tracked files differ from it."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        # A wheel may lie inside some other repository; then this file is not one of its own.
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", Path(__file__).name],
            check=True,
            capture_output=True,
        )
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def shorten_commit(result: dict[str, Any]) -> str:
    """Twelve digits of a result's commit, and "-dirty" where it was; empty where there is none."""
    commit, _, dirty = (result["commit"] or "").partition("-")
    return f"{commit[:12]}-{dirty}" if dirty else commit[:12]


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the resolved config of a run."""
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))


@dataclass(frozen=True)
class Predictions:
    """Scores of the tested tracks: `labels` int (n,), `scores` float (n, classes)."""

    track_ids: list[str]
    labels: np.ndarray
    scores: np.ndarray
    classes: list[str]

    def write(self, path: Path) -> None:
        """As CSV: track_id, genre, predicted, then one column a class."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["track_id", "genre", "predicted", *self.classes])
        for track_id, label, scores in zip(self.track_ids, self.labels, self.scores, strict=True):
            names = [track_id, self.classes[label], self.classes[scores.argmax()]]
            writer.writerow([*names, *(f"{score:.9g}" for score in scores)])
        write_text(path, text.getvalue())

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """What `write` wrote."""
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        classes = header[3:]
        labels = np.array([classes.index(row[1]) for row in rows], dtype=int)
        scores = np.array([row[3:] for row in rows], dtype=float).reshape(len(rows), len(classes))
        return cls([row[0] for row in rows], labels, scores, classes)


@dataclass(frozen=True)
class Run:
    """A finished run, read back."""

    folder: Path
    result: dict[str, Any]
    predictions: Predictions

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """The run in a folder.

        Raises:
            InputError: no finished run is there.
        """
        try:
            return cls(folder, read_json(folder / RESULT), Predictions.read(folder / PREDICTIONS))
        except FileNotFoundError as error:
            raise InputError(f"{folder}: no finished run ({error.filename} is missing)") from None
        except (ValueError, KeyError, IndexError) as error:
            raise InputError(f"{folder}: {RESULT} or {PREDICTIONS} is damaged ({error})") from None


def find_runs(places: Sequence[str | Path], setting: str = "runs") -> list[Run]:
    """All finished runs in or below these folders, sorted by folder.

    Args:
        places: the folders.
        setting: that they come from, for error lines.

    Raises:
        InputError: a folder is missing, or no finished run is found.
    """
    folders: set[Path] = set()
    for place in map(Path, places):
        if not place.is_dir():
            raise InputError(f"{setting}={place}: no such folder")
        folders |= {file.parent for file in place.rglob(RESULT)}
    if not folders:
        named = ", ".join(map(str, places))
        raise InputError(f"{setting}={named}: no finished run (no {RESULT}) there")
    return [Run.read(folder) for folder in sorted(folders)]


BEST, LAST = "best.ckpt", "last.ckpt"
