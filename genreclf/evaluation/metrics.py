"""From scores to figures.

Conventions: `labels` are true classes, int (n,); `scores` are class probabilities, float
(n, classes), rows summing to 1; the predicted class is the highest score. Undefined precision,
recall and F1 (nothing predicted, or no such track) are 0. Macro F1 averages the genres that occur
in `labels`, so that a set without some genre is not punished for it.
"""

from typing import Any

import numpy as np

from genreclf.errors import InputError

# SciPy and scikit-learn, which take most of a second to import, are imported where they are needed:
# `genreclf study --status` only asks which metrics there are.

LOGGED = [
    f"{part}/{name}" for part in ("val", "train") for name in ("loss", "accuracy", "f1_macro")
]


def find_direction(metric: str) -> str:
    """Which way a logged metric gets better: "min" for a loss, "max" for the others.

    Raises:
        InputError: training logs no such metric.
    """
    if metric not in LOGGED:
        raise InputError(f"monitor={metric}: choose one of {', '.join(LOGGED)}")
    return "min" if metric.endswith("loss") else "max"


def evaluate(labels: np.ndarray, scores: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """All figures of one evaluation, as plain values.

    Returns:
        `accuracy`, `interval` (95 %), `f1_macro`, `loss` (cross-entropy, nats), `n`, `per_genre`
        (precision, recall, f1, support of each class) and `confusion` (rows true, columns
        predicted, in the order of `classes`).

    Raises:
        ValueError: no tracks, or scores of another shape than (n, classes).
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    from genreclf.evaluation.intervals import compute_wilson_interval

    if not len(labels) or scores.shape != (len(labels), len(classes)):
        raise ValueError(f"{len(labels)} labels, {len(classes)} classes, scores {scores.shape}")
    numbers = list(range(len(classes)))
    predicted = scores.argmax(axis=1)
    correct = int((predicted == labels).sum())
    figures = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0.0)  # pyright: ignore[reportArgumentType]
    precision, recall, f1, support = map(np.asarray, figures)
    return {
        "accuracy": correct / len(labels),
        "interval": compute_wilson_interval(correct, len(labels)),
        "f1_macro": float(f1[support > 0].mean()),
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


def fit_temperature(labels: np.ndarray, scores: np.ndarray) -> float:
    """What to divide the logits by so that the cross-entropy of these tracks is least (Guo 2017).

    Above 1, the scores were too sure of themselves.
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
    """Mean highest score, accuracy and number of the tracks whose highest score lies in each bin.

    The bins divide 0 to 1 evenly; empty ones are left out.
    """
    highest, correct = scores.max(axis=1), scores.argmax(axis=1) == labels
    of_track = np.minimum((highest * bins).astype(int), bins - 1)
    return [
        (float(highest[inside].mean()), float(correct[inside].mean()), int(inside.sum()))
        for inside in (of_track == number for number in range(bins))
        if inside.any()
    ]


def compute_calibration_error(labels: np.ndarray, scores: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean gap of highest score and accuracy in `reliability`."""
    parts = compute_reliability(labels, scores, bins)
    return sum(count * abs(score - share) for score, share, count in parts) / len(labels)


def format_headline(figures: dict[str, Any]) -> str:
    """The headline of an evaluation, for the terminal."""
    low, high = (100 * bound for bound in figures["interval"])
    return (
        f"accuracy {100 * figures['accuracy']:.2f} % (95 % interval {low:.1f} to {high:.1f}), "
        f"macro F1 {figures['f1_macro']:.3f}, n = {figures['n']}"
    )


def compute_roc_curves(
    labels: np.ndarray, scores: np.ndarray, classes: list[str]
) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """(false positive rate, true positive rate, area) of each genre against the rest.

    A genre that does not occur, or that every track has, has no curve and is left out.
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
