"""Knowledge distillation: another network's embeddings as additional training targets.

Predicting embeddings that were learnt from far more music makes a model generalise better to unseen
artists; at inference it needs only its own features (Hinton 2015, Romero 2015). A classifier of
these embeddings, cross-fitted so that it predicts only tracks it was not fitted to, also gives soft
labels: which genres a track is close to, and which labels are doubtful.

Imports no PyTorch: a finished run is recognised without it.
"""

import io
import logging
import warnings
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
from genreclf.files import BEST

log = logging.getLogger(__name__)
FOLDS = 5  # folds of the training tracks, for soft labels
LEAST = 1e-4  # smallest probability whose logarithm is averaged
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
        self.path, self.weight = Path(str(path)).expanduser(), weight
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
            soft[known] = self._fit_soft_labels(
                targets[known], store.labels[known], len(store.classes)
            )
            predicted = self._average_predictions(store, split)
            soft[rows] = _average_probabilities(soft[rows], predicted[rows])
            targets = np.hstack([targets, soft])
        return targets.astype(np.float32)

    def _fit_soft_labels(
        self, embeddings: np.ndarray, labels: np.ndarray, classes: int
    ) -> np.ndarray:
        """Predict probabilities (tracks, classes), each by a classifier not fitted to the track."""
        from sklearn.linear_model import LogisticRegression  # slow to import, and rarely needed
        from sklearn.model_selection import StratifiedKFold

        soft = np.zeros((len(labels), classes))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class")
            try:
                folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
                for others, fold in folds.split(embeddings, labels):
                    regression = LogisticRegression(C=self.C, max_iter=1000)
                    regression.fit(embeddings[others], labels[others])
                    soft[np.ix_(fold, regression.classes_)] = regression.predict_proba(
                        embeddings[fold]
                    )
            except ValueError as error:
                raise InputError(
                    f"distillation.labels={self.labels}: {len(labels)} tracks are too few ({error})"
                ) from None
        return soft

    def _average_predictions(self, store: Store, split: Split) -> np.ndarray:
        """Average the runs' log-probabilities (len(store), classes); NaN where no run has any."""
        place = {track_id: row for row, track_id in enumerate(store.track_ids)}
        training = set(split["train"].tolist())
        sums, counts = np.zeros((len(store), len(store.classes))), np.zeros((len(store), 1))
        for run in self._read_runs():
            found = run.predictions
            if found.classes != store.classes:
                raise InputError(f"distillation.runs: {run.folder} has other genres")
            seen = _mark_seen_rows(run, store, split)
            useful = {
                place[track_id]: number
                for number, track_id in enumerate(found.track_ids)
                if place.get(track_id) in training and not seen[place[track_id]]
            }
            if not useful:
                raise InputError(
                    f"distillation.runs: {run.folder} predicted no training track of this run that "
                    "it was not trained on itself: leave it out"
                )
            rows = list(useful)
            sums[rows] += np.log(found.scores[list(useful.values())].clip(min=LEAST))
            counts[rows] += 1
        if self.runs:
            known = np.count_nonzero(counts)
            log.info(
                "the runs give soft labels of %d of the %d training tracks", known, len(training)
            )
        return np.where(counts, sums / counts.clip(min=1), np.nan)

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
            digest.update((run.folder / PREDICTIONS).read_bytes())
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
    content = path.read_bytes()
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


def _average_probabilities(soft: np.ndarray, logarithms: np.ndarray) -> np.ndarray:
    """Average probabilities and log-probabilities geometrically; either may be NaN."""
    alone = np.where(np.isnan(soft), np.exp(logarithms), soft)
    both = np.exp((np.log(soft.clip(min=LEAST)) + logarithms) / 2)
    mixed = np.where(np.isnan(both), alone, both)
    return mixed / mixed.sum(axis=1, keepdims=True)


def _mark_seen_rows(run: Run, store: Store, split: Split) -> np.ndarray:
    """Mark the rows that a run was trained on, bool (len(store),).

    Raises:
        InputError: it was, or may have been, trained on held-out tracks of this split.
    """
    from genreclf.models.checkpoint import load_checkpoint  # imports PyTorch

    if not (run.folder / BEST).exists():
        raise InputError(
            f"distillation.runs: {run.folder} has no {BEST}, which records what it was trained on"
        )
    trained = load_checkpoint(run.folder / BEST)
    marked = trained.mark_seen(store, range(len(store)))
    if not marked.any():
        raise InputError(
            f"distillation.runs: {run.folder} was trained on no track of this store, so it is not "
            "known which tracks it has seen: use runs on the same data"
        )
    held_out = [row for part in split if part != "train" for row in split[part]]
    seen = trained.count_seen(store, held_out)
    if seen is None:
        raise InputError(
            f"distillation.runs: {run.folder} was also trained on rows that cannot be compared "
            "with this store, so it is not known which tracks it has seen"
        )
    if seen:
        raise InputError(
            f"distillation.runs: {run.folder} was trained on {seen} of the tracks that this run "
            "validates or tests on, so its soft labels would leak them"
        )
    return marked
