"""What another network knows of the training tracks, for a net to learn beside the genres.

A net that predicts embeddings which were learnt from far more music carries over to artists that it
has not heard better; at use it needs its features alone (distillation: Hinton 2015, Romero 2015).
Besides, what a classifier of these embeddings says of a track that it was not fitted to tells which
genres the track might be of, and which labels are doubtful.
"""

import logging
import warnings
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genreclf.data.datasets.npz import decode_texts, open_archive, read_array
from genreclf.data.splits import Split
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation.runs import BEST, PREDICTIONS, Run, find_runs
from genreclf.models.checkpoint import load_checkpoint

log = logging.getLogger(__name__)
FOLDS = 5  # of the training tracks, for soft labels
LEAST = 1e-4  # probability of a soft label, before it joins others
LARGEST = 4.0  # deviations from the mean; beyond it, values would rule the squared error


class Embeddings:
    """Embeddings of tracks, in a NumPy archive.

    Args:
        path: with arrays `features` (tracks, size) and `track_ids`, those of the store.
        weight: of the squared error to them, where the cross-entropy has 1.
        labels: share of a training target that is a soft label; 0 for none. It is what a logistic
            regression on the embeddings says of the track, fitted to the tracks of other folds.
        C: inverse strength of the logistic regression's L2 penalty.
        runs: folders of finished runs, such as those of all folds (split=fold); what they predicted
            of training tracks that they were not trained on joins the soft labels, by the geometric
            mean.

    Raises:
        InputError: a setting outside its range.
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
                f"distillation.weight={weight}, distillation.labels={labels}, distillation.C={C}: above 0, from 0 "
                "to 1, and above 0 are needed"
            )
        self.path, self.weight = Path(str(path)).expanduser(), weight
        if isinstance(runs, str):
            raise InputError(f"distillation.runs: a list is needed: [{runs}]")
        self.labels, self.C, self.runs = labels, C, list(runs)
        if runs and not labels:
            raise InputError(
                "distillation.runs: they give soft labels, which need distillation.labels above 0"
            )

    def targets(self, store: Store, split: Split) -> Tensor:
        """Of each row of the store, float32; NaN where the archive lacks it.

        Args:
            store: whose tracks they are.
            split: over the rows to be trained on, embeddings have mean 0 and standard deviation 1.

        Returns:
            Embeddings (len(store), size); where `labels` is above 0, soft labels (len(store),
            classes) beside them, for these rows alone.

        Raises:
            InputError: no such archive, arrays missing or of another shape, none of the rows, too
                few of each genre for soft labels, or runs of other genres or trained on rows that
                are validated or tested on here.
        """
        rows = split["train"]
        ids, embeddings = self._read()
        place = {track_id: number for number, track_id in enumerate(ids)}
        known = np.array([place.get(track_id, -1) for track_id in store.track_ids])
        trained = embeddings[known[rows][known[rows] >= 0]]
        if not len(trained):
            raise InputError(
                f"distillation.path={self.path}: none of the {len(rows)} training tracks"
            )
        if len(trained) < len(rows):
            log.warning("the distillation knows %d of %d training tracks", len(trained), len(rows))
        deviation = trained.std(axis=0)
        scale = np.where(deviation > 0, deviation, 1)
        targets = ((embeddings - trained.mean(axis=0)) / scale).clip(-LARGEST, LARGEST)
        of_rows = np.where(known[:, None] >= 0, targets[known], np.nan)
        if self.labels:
            taught = rows[known[rows] >= 0]
            soft = np.full((len(store), len(store.classes)), np.nan)
            soft[taught] = self._fit_soft_labels(
                of_rows[taught], store.labels[taught], soft.shape[1]
            )
            soft[rows] = _average_probabilities(
                soft[rows], self._average_predictions(store, split)[rows]
            )
            of_rows = np.hstack([of_rows, soft])
        return torch.from_numpy(of_rows.astype(np.float32))

    def _fit_soft_labels(
        self, embeddings: np.ndarray, labels: np.ndarray, classes: int
    ) -> np.ndarray:
        """Probabilities (tracks, classes), each from a classifier that has not seen the track."""
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
        """Mean log-probabilities (len(store), classes) that the runs give; NaN where none does."""
        place = {track_id: row for row, track_id in enumerate(store.track_ids)}
        taught = set(split["train"].tolist())
        sums, counts = np.zeros((len(store), len(store.classes))), np.zeros((len(store), 1))
        for run in self._finished():
            found = run.predictions
            if found.classes != store.classes:
                raise InputError(f"distillation.runs: {run.folder} has other genres")
            heard = _find_seen_rows(run, store, split)
            told = {
                place[track_id]: number
                for number, track_id in enumerate(found.track_ids)
                if place.get(track_id) in taught and store.row_sha1[place[track_id]] not in heard
            }
            if not told:
                raise InputError(
                    f"distillation.runs: {run.folder} predicted no training track of this run that it "
                    "was not trained on itself: leave it out"
                )
            rows = list(told)
            sums[rows] += np.log(found.scores[list(told.values())].clip(min=LEAST))
            counts[rows] += 1
        if self.runs:
            known = np.count_nonzero(counts)
            log.info("runs give soft labels of %d of %d training tracks", known, len(taught))
        return np.where(counts, sums / counts.clip(min=1), np.nan)

    def check_place(self, folder: Path) -> None:
        """Refuse, with InputError, runs among which the new one, in this folder, would be."""
        parents = folder.resolve().parents
        if inside := [place for place in self.runs if Path(place).resolve() in parents]:
            raise InputError(
                f"distillation.runs={inside[0]}: this run itself will lie there; runs that teach need "
                "a place of their own (outputs=... when they are trained)"
            )

    def _finished(self) -> list[Run]:
        return find_runs(self.runs, "distillation.runs") if self.runs else []

    def digest(self) -> str:
        """SHA-1 of the archive, and of what runs predicted; InputError where there is none."""
        self._check()
        files = [self.path, *(run.folder / PREDICTIONS for run in self._finished())]
        return sha1(b"".join(file.read_bytes() for file in files)).hexdigest()

    def _check(self) -> None:
        if not self.path.is_file():
            raise InputError(f"distillation.path={self.path}: no such file")

    def size(self) -> int:
        """Of the embeddings; InputError as by `targets`."""
        return self._read()[1].shape[1]

    def _read(self) -> tuple[list[str], np.ndarray]:
        self._check()
        with open_archive(self.path) as archive:
            ids = decode_texts(read_array(archive, self.path, "track_ids"))
            embeddings = read_array(archive, self.path, "features")
        numbers = embeddings.dtype.kind in "biuf"
        if embeddings.ndim != 2 or len(ids) != len(embeddings) or not numbers:
            raise InputError(
                f"distillation.path={self.path}: features {embeddings.shape} of {len(ids)} tracks; "
                "numbers (tracks, size) are needed"
            )
        if len(set(ids)) < len(ids):
            raise InputError(f"distillation.path={self.path}: a track id occurs more than once")
        if not np.isfinite(embeddings).all():
            raise InputError(f"distillation.path={self.path}: values that are not finite numbers")
        return ids, embeddings.astype(np.float64)


def _average_probabilities(soft: np.ndarray, logarithms: np.ndarray) -> np.ndarray:
    """Probabilities: the geometric mean of two, of which one may be NaN."""
    alone = np.where(np.isnan(soft), np.exp(logarithms), soft)
    both = np.exp((np.log(soft.clip(min=LEAST)) + logarithms) / 2)
    mixed = np.where(np.isnan(both), alone, both)
    return mixed / mixed.sum(axis=1, keepdims=True)


def _find_seen_rows(run: Run, store: Store, split: Split) -> frozenset[str]:
    """Hashes of the rows that a run was trained on.

    Raises:
        InputError: it has seen tracks which this run is judged by, or may have.
    """
    if not (run.folder / BEST).exists():
        raise InputError(
            f"distillation.runs: {run.folder} has no {BEST}, which would tell what it was trained on"
        )
    trained = load_checkpoint(run.folder / BEST)
    heard = (trained.trained_on or {}).get(str(store.dtype), frozenset())
    if heard.isdisjoint(store.row_sha1):
        raise InputError(
            f"distillation.runs: {run.folder} was trained on no row of this store, so that nobody can "
            "tell which of its tracks it has seen: runs on the same data and features are needed"
        )
    held_out = [store.row_sha1[row] for part in split if part != "train" for row in split[part]]
    seen = trained.seen(held_out, str(store.dtype))
    if seen is None:
        raise InputError(
            f"distillation.runs: {run.folder} began with weights that were trained on rows stored "
            "otherwise, so that nobody can tell which of its tracks it has seen"
        )
    if seen:
        raise InputError(
            f"distillation.runs: {run.folder} was trained on {seen} of the tracks that this run "
            "validates or tests on, so that its labels would tell of them"
        )
    return heard
