"""Normalises features before the network, using statistics of the training part.

Each function takes the training features in batches (batch, bins, frames) and returns a module
that keeps this shape. The checkpoint stores the module's statistics.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from genreclf.errors import InputError
from genreclf.models.normalise import Normalise


def keep_features(batches: Iterable[Tensor]) -> nn.Module:
    """Leave the features as they are, as the paper does."""
    return nn.Identity()


def require_pretrained(batches: Iterable[Tensor]) -> nn.Module:
    """Stand for the normalisation of the pretrained model, which replaces this function.

    Raises:
        InputError: always: it was called, so training starts from random weights.
    """
    raise InputError("normalise=init goes with init=pretrained, and with nothing else")


def fit_per_bin(batches: Iterable[Tensor]) -> Normalise:
    """Scale each bin to mean 0 and standard deviation 1; a constant bin becomes 0."""
    count, total, squares = 0, torch.zeros(1), torch.zeros(1)
    for batch in batches:
        values = batch.double().transpose(0, 1).flatten(1)  # (bins, batch * frames)
        count += values.shape[1]
        total = total + values.sum(dim=1)
        squares = squares + values.square().sum(dim=1)
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
    constant = deviation <= 1e-6 * mean.abs()  # up to rounding
    scale = torch.where(constant, 1.0, deviation)
    return Normalise(mean[:, None], scale[:, None])


def fit_unit_range(batches: Iterable[Tensor]) -> Normalise:
    """Scale the range of the training part to 0 to 1; other parts may exceed it."""
    extremes = [torch.stack(torch.aminmax(batch)) for batch in batches]
    low, high = torch.stack(extremes).amin(dim=0)[0], torch.stack(extremes).amax(dim=0)[1]
    scale = torch.where(high > low, high - low, 1.0)
    return Normalise(low.reshape(1, 1), scale.reshape(1, 1))
