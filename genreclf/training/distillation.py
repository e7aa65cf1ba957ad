"""Knowledge distillation: another network's embeddings as additional training targets.

Predicting embeddings that were learnt from far more music makes a model generalise better to unseen
artists; at inference it needs only its own features (Hinton 2015, Romero 2015). A classifier of
these embeddings, cross-fitted so that it predicts only tracks it was not fitted to, also gives soft
labels: which genres a track is close to, and which labels are doubtful.

Imports no PyTorch: a finished run is recognised without it.
"""

import io
import logging
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha1
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.data.datasets.arrays import convert_texts, open_archive, read_array
from genreclf.data.splits import Split
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation.runs import PREDICTIONS, Run, read_runs
from genreclf.files import read_bytes
from genreclf.paths import locate_path
from genreclf.training.soft_labels import (
    average_predictions,
    average_probabilities,
    fit_soft_labels,
)

log = logging.getLogger(__name__)
LARGEST = 4.0  # standard deviations from the mean; outliers would dominate the squared error


class Embeddings:
    """Target embeddings and soft labels from embeddings in a NumPy archive.

    Args:
        path: the archive, with arrays `features` (tracks, size) and `track_ids` as in the store.
        weight: weight of the squared error of the embeddings; the cross-entropy has weight 1.
        labels: weight of the soft labels in the training targets, from 0 (none) to 1. A soft label
            holds the probabilities from a logistic regression on the embeddings that was fitted
            to the other folds.
        C: inverse strength of the logistic regression's L2 penalty.
        runs: folders of finished runs, such as all folds of split=fold; their predictions of
            training tracks that they were not trained on are averaged with the soft labels, by the
            geometric mean.

    Raises:
        InputError: a setting is outside its range.
    """

    def __init__(
        self,
        path: str | Path,
        weight: float = 1.0,
        labels: float = 0.5,
        C: float = 0.01,  # noqa: N803
        runs: Sequence[str] = (),
    ) -> None:
        if not weight > 0 or not 0 <= labels <= 1 or not C > 0:
            raise InputError(
                f"distillation.weight={weight}, distillation.labels={labels}, distillation.C={C}: "
                "above 0, from 0 to 1, and above 0 are needed"
            )
        self.path, self.weight = locate_path(str(path)), weight
        if isinstance(runs, str):
            raise InputError(f"distillation.runs: a list is needed: [{runs}]")
        self.labels, self.C, self.runs = labels, C, list(runs)
        if runs and not labels:
            raise InputError(
                "distillation.runs gives soft labels, which need distillation.labels above 0"
            )

    def make_targets(self, store: Store, split: Split) -> np.ndarray:
        """Make the targets of each row of the store; NaN if the archive lacks the track.

        Args:
            store: the store of the tracks.
            split: its parts; embeddings are standardised to mean 0 and standard deviation 1 over
                the training rows.

        Returns:
            Embeddings, float32 (len(store), size). If `labels` is above 0, they are followed by
            soft labels (len(store), classes), which only training rows have.

        Raises:
            InputError: there is no such archive, arrays are missing or have the wrong shape, no
                training track is among them, a genre has too few tracks for soft labels, or a run
                has other genres or was trained on rows that are held out here.
        """
        rows = split["train"]
        _, ids, embeddings = self._read()
        places = {track_id: place for place, track_id in enumerate(ids)}
        place = np.array([places.get(track_id, -1) for track_id in store.track_ids])
        known = rows[place[rows] >= 0]
        trained = embeddings[place[known]]
        if not len(trained):
            raise InputError(
                f"distillation.path={self.path}: none of the {len(rows)} training tracks"
            )
        if len(trained) < len(rows):
            log.warning(
                "distillation.path has %d of the %d training tracks", len(trained), len(rows)
            )
        deviation = trained.std(axis=0)
        scale = np.where(deviation > 0, deviation, 1)
        standardised = ((embeddings - trained.mean(axis=0)) / scale).clip(-LARGEST, LARGEST)
        targets = np.where(place[:, None] >= 0, standardised[place], np.nan)
        if self.labels:
            soft = np.full((len(store), len(store.classes)), np.nan)
            try:
                soft[known] = fit_soft_labels(
                    targets[known], store.labels[known], len(store.classes), self.C
                )
            except ValueError as error:
                raise InputError(
                    f"distillation.labels={self.labels}: {len(known)} tracks are too few ({error})"
                ) from None
            predicted = average_predictions(self._read_runs(), store, split)
            soft[rows] = average_probabilities(soft[rows], predicted[rows])
            targets = np.hstack([targets, soft])
        return targets.astype(np.float32)

    def check_folder(self, folder: Path) -> None:
        """Check that the new run's folder is not among those of the runs that give soft labels.

        Raises:
            InputError: it is inside one of them.
        """
        parents = folder.resolve().parents
        if inside := [place for place in self.runs if Path(place).resolve() in parents]:
            raise InputError(
                f"distillation.runs={inside[0]}: this run will lie there too; train the runs that "
                "give soft labels into another folder (outputs=...)"
            )

    def _read_runs(self) -> Sequence[Run]:
        return read_runs(self.runs, "distillation.runs") if self.runs else []

    def compute_digest(self) -> str:
        """Compute the SHA-1 of the archive and of the runs' predictions.

        Raises:
            InputError: a file is missing, or there is no finished run.
        """
        digest = self._read()[0].copy()
        for run in self._read_runs():
            digest.update(read_bytes(run.folder / PREDICTIONS))
        return digest.hexdigest()

    def read_size(self) -> int:
        """Read the length of an embedding.

        Raises:
            InputError: there is no such archive, or arrays are missing or have the wrong shape.
        """
        return self._read()[2].shape[1]

    def _read(self) -> tuple[Any, list[str], np.ndarray]:
        """Read the archive, once in each process: its SHA-1 object, track ids and embeddings."""
        try:
            stat = self.path.stat()
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise InputError(f"distillation.path={self.path}: {reason}") from None
        return _read_archive(self.path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=2)
def _read_archive(path: Path, *_: int) -> tuple[Any, list[str], np.ndarray]:
    """Read an archive of embeddings; a change of the other arguments makes it be read again."""
    content = read_bytes(path)
    with open_archive(path, io.BytesIO(content)) as archive:
        ids = convert_texts(read_array(archive, path, "track_ids"), path, "track_ids")
        embeddings = read_array(archive, path, "features")
    numbers = embeddings.dtype.kind in "biuf"
    if embeddings.ndim != 2 or len(ids) != len(embeddings) or not numbers:
        raise InputError(
            f"distillation.path={path}: features {embeddings.shape} of {len(ids)} tracks; "
            "numbers (tracks, size) are needed"
        )
    if len(set(ids)) < len(ids):
        raise InputError(f"distillation.path={path}: a track id occurs more than once")
    if not np.isfinite(embeddings).all():
        raise InputError(f"distillation.path={path}: values that are not finite numbers")
    return sha1(content), ids, embeddings.astype(np.float64)
