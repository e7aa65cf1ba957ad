"""Optimizers and schedulers with flat settings, so that each can be swept by name."""

from collections.abc import Iterable
from typing import Any

from torch.nn import Parameter
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, ReduceLROnPlateau

from genreclf.metrics import direction


def adam(
    parameters: Iterable[Parameter], lr: float, beta1: float, beta2: float, weight_decay: float
) -> Adam:
    """Adam; weight decay is added to the gradient (L2)."""
    return Adam(parameters, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


def adamw(
    parameters: Iterable[Parameter], lr: float, beta1: float, beta2: float, weight_decay: float
) -> AdamW:
    """AdamW; weight decay acts on the weights themselves (Loshchilov and Hutter 2017)."""
    return AdamW(parameters, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


def plateau(optimizer: Optimizer, monitor: str, patience: int, factor: float) -> dict[str, Any]:
    """Multiply the learning rate by `factor` after `patience` epochs without a better `monitor`.

    Returns:
        Lightning's scheduler config; ReduceLROnPlateau is the paper's scheduler.

    Raises:
        InputError: training logs no such metric.
    """
    mode: Any = direction(monitor)
    scheduler = ReduceLROnPlateau(optimizer, mode=mode, patience=patience, factor=factor)
    return {"scheduler": scheduler, "monitor": monitor, "interval": "epoch"}


def constant(optimizer: Optimizer) -> dict[str, Any]:
    """No scheduler: the learning rate stays."""
    return {"scheduler": ConstantLR(optimizer, factor=1.0)}
