"""Loss functions. Any `torch.nn.Module` that takes logits and targets is one (`protocols.Loss`)."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from genreclf.errors import InputError, describe_failure, find_own_line


class CrossEntropy(nn.Module):
    """Cross-entropy in nats, optionally weighted by genre and focused on hard tracks.

    The loss of a track is the sum over genres of `-weight * target * (1 - p) ** gamma * log(p)`,
    and that of a batch is their mean.

    Args:
        weights: "balanced" weights each genre by the inverse of its number of training tracks,
            so that rare genres count as much as common ones; "none" weights all tracks equally.
        gamma: how much well-classified tracks are discounted (focal loss; Lin and others 2017,
            arXiv:1708.02002, use 2); 0 is the cross-entropy.

    Raises:
        InputError: `weights` is unknown, or `gamma` negative.
    """

    weights: Tensor | None

    def __init__(self, weights: str = "none", gamma: float = 0.0) -> None:
        super().__init__()
        if weights not in ("none", "balanced"):
            raise InputError(f"loss.weights={weights}: choose none or balanced")
        if not gamma >= 0:
            raise InputError(f"loss.gamma={gamma}: at least 0 is needed")
        self.balanced, self.gamma = weights == "balanced", gamma
        self.register_buffer("weights", None, persistent=False)

    def fit(self, counts: Tensor) -> None:
        """Set the weights from the number of training tracks per genre, int (classes,).

        They average 1 over the training tracks; a genre without tracks has weight 0.
        """
        if self.balanced:
            shares = counts.float() * (counts > 0).sum() / counts.sum()
            self.weights = torch.where(counts > 0, 1 / shares, 0.0)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the mean loss of a batch.

        Args:
            logits: (batch, classes).
            targets: classes, int (batch,), or their probabilities, float (batch, classes).
        """
        if self.weights is None and not self.gamma:
            return functional.cross_entropy(logits, targets)
        logs = logits.float().log_softmax(dim=1)
        if targets.ndim == 1:
            targets = functional.one_hot(targets, logits.shape[1]).float()
        # At p = 1 the slope of a power below 1 would be infinite.
        terms = -targets * logs * (1 - logs.exp()).clamp(min=1e-6) ** self.gamma
        if self.weights is not None:
            terms = terms * self.weights
        return terms.sum(dim=1).mean()


def compute_loss(loss: nn.Module, logits: Tensor, goal: Tensor) -> Tensor:
    """Compute a loss that may be the user's own.

    Args:
        loss: the loss.
        logits: (batch, classes).
        goal: labels (batch,), or probabilities (batch, classes).

    Raises:
        InputError: it takes no probabilities as targets, or is not one number.
    """
    try:
        value = loss(logits, goal)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if goal.ndim == 1 or isinstance(error, InputError | torch.OutOfMemoryError):
            raise
        what = (
            "loss: with label_smoothing, mixup or soft labels, its targets are probabilities "
            f"(batch, classes), which it does not take; it fails{find_own_line(error)}"
        )
        raise InputError(describe_failure(what, error)) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"loss: it gives {given} for a batch; one number is needed, such as the mean over "
            "the batch (reduction: mean)"
        )
    return value


def compute_distillation_error(predicted: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean squared error of a batch; missing targets (NaN) have no error."""
    known = targets.isfinite()
    return torch.where(known, predicted.float() - targets, 0.0).square().mean()


def fit_loss(loss: nn.Module, labels: np.ndarray, classes: int) -> None:
    """Tell a loss that has a `fit` method the number of training tracks per class."""
    if hasattr(loss, "fit"):
        loss.fit(torch.from_numpy(np.bincount(labels, minlength=classes)))  # pyright: ignore
