"""Helpers that several networks share."""

from torch import nn

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


def get_min_size(net: nn.Module) -> int:
    """Return the minimum number of bins and of frames that a network takes."""
    return getattr(net, "min_size", 1)
