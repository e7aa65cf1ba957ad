"""Metrics during training: what each gets, and those that torchmetrics defines differently."""

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from genreclf.errors import InputError

LEAST_LOG = math.log(torch.finfo(torch.float32).tiny)  # of a probability of 0, about -87


def compute_log_probabilities(logits: Tensor) -> Tensor:
    """Compute the log-probabilities that every metric gets, finite float32 (batch, classes).

    They are logits, too: a metric may take their argmax, softmax or cross-entropy. torchmetrics
    takes values that all lie between 0 and 1 for probabilities, which some logits do, and these
    never.

    Args:
        logits: (batch, classes); log-probabilities, even of 0, stay as they are.
    """
    return logits.float().log_softmax(dim=1).clamp(min=LEAST_LOG)


class F1Macro(MulticlassF1Score):
    """Macro F1 as in `genreclf.evaluation.metrics.evaluate`: the mean over genres that occur.

    torchmetrics also averages over genres that are predicted but that no track has, with an F1 of
    0. With it, the epoch that training keeps could differ from the one that is best by the
    reported metric. Without any track the value is 0.

    Args:
        num_classes: number of genres.
        validate_args: whether torchmetrics checks each batch, which takes time.
    """

    def __init__(self, num_classes: int, validate_args: bool = False) -> None:
        super().__init__(num_classes, average="none", validate_args=validate_args)

    def compute(self) -> Tensor:
        """Compute macro F1 of all batches so far, a scalar."""
        true_positives, _, _, false_negatives = self._final_state()
        occurs = (true_positives + false_negatives) > 0
        return (super().compute() * occurs).sum() / occurs.sum().clamp(min=1)


def make_standard_metrics(classes: int) -> dict[str, Metric]:
    """Make the metrics of `metric=standard`, by name."""
    return {
        "accuracy": MulticlassAccuracy(classes, average="micro", validate_args=False),
        "f1_macro": F1Macro(classes),
    }


def check_numbers(metrics: Mapping[str, Metric], classes: int) -> None:
    """Check that each metric gives one number, which can be logged.

    Args:
        metrics: by name.
        classes: the number of genres for which they were made.

    Raises:
        InputError: one gives something else, such as a number for each genre.
    """
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(2 * classes, classes, generator=random).log_softmax(dim=1)
    labels = torch.arange(2 * classes) % classes
    for name, metric in metrics.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about these few clips
                value = metric(scores, labels)
        except Exception:  # it may suit other genres than these
            continue
        if not (isinstance(value, int | float) or getattr(value, "numel", lambda: 0)() == 1):
            given = f"values of shape {tuple(value.shape)}" if isinstance(value, Tensor) else value
            raise InputError(
                f"metric.{name}: it gives {given}; one number is needed to log, such as the mean "
                "over genres (average: macro)"
            )
