"""Targets of the loss in training: label smoothing, soft labels and mixup."""

import torch
from torch import Tensor
from torch.distributions import Beta
from torch.nn import functional


def make_probabilities(
    labels: Tensor, classes: int, soft: Tensor | None, smoothing: float, soft_share: float
) -> Tensor:
    """Make the probabilities (batch, classes) that a batch is trained for.

    Args:
        labels: (batch,).
        classes: number of classes.
        soft: soft labels (batch, classes), NaN where there are none; None without distillation.
        smoothing: share that is spread over all classes.
        soft_share: share of the soft labels in the rest.
    """
    goal = functional.one_hot(labels, classes).float()
    if soft is not None:
        goal = torch.lerp(goal, torch.where(soft.isfinite(), soft, goal), soft_share)
    return goal * (1 - smoothing) + smoothing / classes


def draw_mix(labels: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Draw how the clips of a batch are mixed (mixup).

    Args:
        labels: (batch,), of which only the number and the device matter.
        alpha: of the distribution Beta(alpha, alpha).

    Returns:
        The share of each clip itself, a scalar, and the number of the other one (batch,).
    """
    both = torch.full((), float(alpha), device=labels.device)
    share = Beta(both, both, validate_args=False).sample()  # without waiting for a GPU
    return share, torch.randperm(len(labels), device=labels.device)


def mix(values: Tensor, share: Tensor, others: Tensor) -> Tensor:
    """Mix values (batch, ...) of each clip with those of another, as `draw_mix` says."""
    return torch.lerp(values[others], values, share)
