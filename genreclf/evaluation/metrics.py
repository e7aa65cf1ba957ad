"""Metrics of a classifier: accuracy, F1, average precision, confusion, ROC curves, calibration.

Conventions: `labels` are true classes, int (n,); `scores` are class probabilities, float
(n, classes), rows summing to 1; the predicted class is the one with the highest score. Undefined
precision, recall and F1 (nothing predicted, or no such track) are 0. Macro F1 and mean average
precision are means over the genres that occur in `labels`. A genre that no track has would add a
zero, although its only mistakes, false positives, already lower the recall of the true genres; it
also has no average precision. `genreclf.training.metrics.F1Macro` follows the same definition.

SciPy and scikit-learn, which take most of a second to import, are imported where they are used:
`genreclf study --status` only needs the names of the metrics.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from genreclf.errors import InputError
from genreclf.evaluation.intervals import compute_wilson_interval

log = logging.getLogger(__name__)
TOP = 3  # of top-3 accuracy
LAST_EPOCH = "last"  # a value of `monitor`: the last epoch is kept
LOGGED = [
    f"{part}/{name}" for part in ("val", "train") for name in ("loss", "accuracy", "f1_macro")
]


def name_selected_metric(monitor: str) -> str:
    """Name the metric by which runs with this `monitor` are compared; "last" compares none."""
    return "val/loss" if monitor == LAST_EPOCH else monitor


def find_direction(metric: str) -> str:
    """Return "min" for a metric that should be low, "max" for one that should be high.

    The names of losses and errors end in "loss" or "error"; all other metrics should be high.

    Raises:
        InputError: it is not the name of a metric of training or validation.
    """
    part, _, name = metric.partition("/")
    if part not in ("train", "val") or not name:
        raise InputError(f"monitor={metric}: choose one of {', '.join(LOGGED)}")
    return "min" if name.endswith(("loss", "error")) else "max"


def check_metric(key: str, metric: str, logged: Mapping[str, Any]) -> None:
    """Check that training logs the metric that a setting names, and that its direction is known.

    Args:
        key: the setting.
        metric: what it names, such as "val/accuracy".
        logged: the metrics that training logs besides the loss, by name; None for those whose
            `higher_is_better` need not be looked at.

    Raises:
        InputError: it is not logged, or its name says the opposite of its `higher_is_better`.
    """
    names = [f"{part}/{name}" for part in ("val", "train") for name in ("loss", *logged)]
    if metric not in names:
        usual = "; metric=[standard,...] logs the usual ones as well" * (metric in LOGGED)
        raise InputError(f"{key}={metric}: choose one of {', '.join(names)}{usual}")
    name = metric.partition("/")[2]
    if logged.get(name) is None:
        return
    higher = getattr(logged[name], "higher_is_better", None)
    direction = find_direction(metric)
    if higher is False and direction == "max":
        raise InputError(
            f"{key}={metric}: lower is better for this metric, so give it a name that ends in "
            f"error, such as {name}_error"
        )
    if higher and direction == "min":
        raise InputError(
            f"{key}={metric}: higher is better for this metric, so give it a name that does not "
            "end in loss or error"
        )
    if higher is None:
        best = "lowest" if direction == "min" else "highest"
        log.warning(
            "%s=%s: this metric has no higher_is_better, so its name decides: the %s value is best",
            *(key, metric, best),
        )


def evaluate(labels: np.ndarray, scores: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """Compute all metrics of one evaluation, as plain values.

    Returns:
        `accuracy`, `interval` (95 %, Wilson), `top3_accuracy` (share of tracks whose genre is among
        the three with the highest scores; None with three genres or fewer, where it would be 1),
        `f1_macro`, `mean_average_precision` (the mean over
        genres of the average precision of each against the rest), `loss` (cross-entropy, nats),
        `n`, `per_genre` (precision, recall, f1 and support of each class) and `confusion` (counts;
        rows are true, columns predicted, both in the order of `classes`). Shares lie in [0, 1].

    Raises:
        ValueError: there are no tracks, the shape of `scores` is not (n, classes), or a score is
            not a finite number.
    """
    from sklearn.metrics import (
        average_precision_score,
        confusion_matrix,
        precision_recall_fscore_support,
    )

    if not len(labels) or scores.shape != (len(labels), len(classes)):
        raise ValueError(f"{len(labels)} labels, {len(classes)} classes, scores {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores that are not finite numbers")
    numbers = list(range(len(classes)))
    predicted = scores.argmax(axis=1)
    correct = int((predicted == labels).sum())
    found = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0.0)  # pyright: ignore[reportArgumentType]
    precision, recall, f1, support = map(np.asarray, found)
    averages = [
        average_precision_score(labels == i, scores[:, i]) for i in numbers if support[i] > 0
    ]
    return {
        "accuracy": correct / len(labels),
        "interval": compute_wilson_interval(correct, len(labels)),
        "top3_accuracy": float((rank_true_classes(labels, scores) < TOP).mean())
        if len(classes) > TOP
        else None,
        "f1_macro": float(f1[support > 0].mean()),
        "mean_average_precision": float(np.mean(averages)),
        "loss": float(-np.log(np.maximum(scores[np.arange(len(labels)), labels], 1e-12)).mean()),
        "n": len(labels),
        "per_genre": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, name in enumerate(classes)
        },
        "confusion": confusion_matrix(labels, predicted, labels=numbers).tolist(),
    }


def rank_true_classes(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Rank each track's true class by its score, int (n,); 0 is the highest.

    Of equal scores, the class with the lower number comes first, as with `argmax`.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    before = np.arange(scores.shape[1]) < labels[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(axis=1)


def fit_temperature(labels: np.ndarray, scores: np.ndarray) -> float:
    """Fit the temperature: dividing the logits by it minimises the cross-entropy of these tracks.

    Above 1, the scores were overconfident (Guo and others, 2017, arXiv:1706.04599).
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    logits = np.log(np.maximum(scores, 1e-12))

    def loss(log_temperature: float) -> float:
        cooled = logits / np.exp(log_temperature)
        return -log_softmax(cooled, axis=1)[np.arange(len(labels)), labels].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))  # pyright: ignore


def compute_reliability(
    labels: np.ndarray, scores: np.ndarray, bins: int = 10
) -> list[tuple[float, float, int]]:
    """Compare confidence with accuracy, in equal bins of the confidence from 0 to 1.

    The confidence is the highest score of a track.

    Returns:
        (mean confidence, accuracy, number of tracks) of each bin; empty bins are left out.
    """
    highest, correct = scores.max(axis=1), scores.argmax(axis=1) == labels
    of_track = np.minimum((highest * bins).astype(int), bins - 1)
    return [
        (float(highest[inside].mean()), float(correct[inside].mean()), int(inside.sum()))
        for inside in (of_track == number for number in range(bins))
        if inside.any()
    ]


def compute_calibration_error(labels: np.ndarray, scores: np.ndarray, bins: int = 10) -> float:
    """Compute the expected calibration error: the mean gap between confidence and accuracy."""
    rows = compute_reliability(labels, scores, bins)
    return sum(count * abs(score - accuracy) for score, accuracy, count in rows) / len(labels)


def compute_roc_curves(
    labels: np.ndarray, scores: np.ndarray, classes: list[str]
) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """Compute the ROC curve of each genre against the rest.

    Returns:
        For each genre (false positive rates, true positive rates, area under the curve). A genre
        that no track has, or that all have, has no curve and is left out.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    curves = {}
    for number, name in enumerate(classes):
        positive = labels == number
        if 0 < positive.sum() < len(labels):
            false_rate, true_rate, _ = roc_curve(positive, scores[:, number])
            area = float(roc_auc_score(positive, scores[:, number]))
            curves[name] = (false_rate, true_rate, area)
    return curves


def format_headline(metrics: dict[str, Any]) -> str:
    """Format what `evaluate` returned as one line for the terminal."""
    low, high = (100 * bound for bound in metrics["interval"])
    return (
        f"accuracy {100 * metrics['accuracy']:.2f} % (95 % interval {low:.1f} to {high:.1f}), "
        f"macro F1 {metrics['f1_macro']:.3f}, n = {metrics['n']}"
    )
