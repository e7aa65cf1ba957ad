"""Soft labels of the training tracks: by a classifier of their embeddings, and by finished runs.

Neither may have been fitted to the track that it labels, nor to any track that is held out.

Imports no PyTorch: a finished run is recognised without it.
"""

import logging
import warnings
from collections.abc import Sequence

import numpy as np

from genreclf.data.splits import Split
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation.runs import Run
from genreclf.files import BEST

log = logging.getLogger(__name__)
FOLDS = 5  # folds of the training tracks
LEAST = 1e-4  # smallest probability whose logarithm is averaged


def fit_soft_labels(
    embeddings: np.ndarray, labels: np.ndarray, classes: int, strength: float
) -> np.ndarray:
    """Predict the genre of each track by a logistic regression that was fitted to the other folds.

    Args:
        embeddings: float (tracks, size).
        labels: int (tracks,).
        classes: number of genres.
        strength: inverse strength of the L2 penalty.

    Returns:
        Probabilities (tracks, classes).

    Raises:
        ValueError: there are too few tracks.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and rarely needed
    from sklearn.model_selection import StratifiedKFold

    soft = np.zeros((len(labels), classes))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        for others, fold in folds.split(embeddings, labels):
            regression = LogisticRegression(C=strength, max_iter=1000)
            regression.fit(embeddings[others], labels[others])
            soft[np.ix_(fold, regression.classes_)] = regression.predict_proba(embeddings[fold])
    return soft


def average_predictions(runs: Sequence[Run], store: Store, split: Split) -> np.ndarray:
    """Average what runs predicted of the training tracks that they were not trained on.

    Returns:
        Mean log-probabilities (len(store), classes); NaN where no run has any.

    Raises:
        InputError: a run has other genres, has no useful prediction, or was trained, or may have
            been, on tracks that are held out here.
    """
    place = {track_id: row for row, track_id in enumerate(store.track_ids)}
    training = set(split["train"].tolist())
    sums, counts = np.zeros((len(store), len(store.classes))), np.zeros((len(store), 1))
    for run in runs:
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
    if runs:
        known = np.count_nonzero(counts)
        log.info("the runs give soft labels of %d of the %d training tracks", known, len(training))
    return np.where(counts, sums / counts.clip(min=1), np.nan)


def average_probabilities(soft: np.ndarray, logarithms: np.ndarray) -> np.ndarray:
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
    from genreclf.models.model_files import read_seen_tracks  # imports PyTorch

    if not (run.folder / BEST).exists():
        raise InputError(
            f"distillation.runs: {run.folder} has no {BEST}, which records what it was trained on"
        )
    trained_on = read_seen_tracks(run.folder / BEST)
    marked = trained_on.mark(store, range(len(store)))
    if not marked.any():
        raise InputError(
            f"distillation.runs: {run.folder} was trained on no track of this store, so it is not "
            "known which tracks it has seen: use runs on the same data"
        )
    held_out = [row for part in split if part != "train" for row in split[part]]
    seen = trained_on.count(store, held_out)
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
