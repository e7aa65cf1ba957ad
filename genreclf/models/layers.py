"""Helpers that several networks share."""

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from genreclf.errors import InputError


def check_rates(**rates: float) -> None:
    """Check dropout rates, given by the name of the setting.

    Raises:
        InputError: a rate is not a number, negative, or not under 1.
    """
    for name, rate in rates.items():
        if not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise InputError(f"model.{name}={rate!r}: a rate of at least 0 and under 1 is needed")


def count_parameters(net: nn.Module) -> int:
    """Count trainable parameters."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def initialise_lazy(model: nn.Module, shape: tuple[int, int]) -> None:
    """Give PyTorch's lazy layers, such as `nn.LazyLinear`, their size and initial weights.

    Args:
        model: the network.
        shape: (bins, frames) of the features.
    """
    if any(map(is_lazy, [*model.parameters(), *model.buffers()])):
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape))
        model.train()


def get_min_size(net: nn.Module) -> int:
    """Return the minimum number of bins and of frames that a network takes."""
    return getattr(net, "min_size", 1)


def has_no_epochs(net: nn.Module) -> bool:
    """Whether a model is trained by its own `fit`, on all tracks at once (`without_epochs`)."""
    return bool(getattr(net, "without_epochs", False))
