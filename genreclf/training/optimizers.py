"""Optimizers and schedulers with flat settings, so that a sweep can vary each by name."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LambdaLR, LRScheduler, ReduceLROnPlateau

from genreclf.errors import InputError, find_own_line
from genreclf.evaluation.metrics import find_direction


def make_adam(
    parameters: Iterable[Parameter], lr: float, beta1: float, beta2: float, weight_decay: float
) -> Adam:
    """Make Adam; weight decay is added to the gradient (L2)."""
    return Adam(parameters, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


def make_adamw(
    parameters: Iterable[Parameter], lr: float, beta1: float, beta2: float, weight_decay: float
) -> AdamW:
    """Make AdamW; weight decay acts on the weights themselves (Loshchilov and Hutter 2017)."""
    return AdamW(parameters, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


def make_sgd(
    parameters: Iterable[Parameter],
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> SGD:
    """Make stochastic gradient descent; weight decay is added to the gradient (L2)."""
    return SGD(parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)


def reduce_on_plateau(
    optimizer: Optimizer, monitor: str, patience: int, factor: float, mode: str | None = None
) -> dict[str, Any]:
    """Multiply the learning rate by `factor` after `patience` epochs without a better `monitor`.

    Args:
        optimizer: the optimizer whose learning rate is changed.
        monitor: a logged metric.
        patience: number of epochs.
        factor: a number between 0 and 1.
        mode: whether "min" or "max" is better; None for "min" for a loss, else "max".

    Returns:
        Lightning's scheduler config; ReduceLROnPlateau is the paper's scheduler.

    Raises:
        InputError: an unknown metric or mode.
    """
    if mode not in (None, "min", "max"):
        raise InputError(f"scheduler.mode={mode}: choose min or max; null chooses by metric")
    usual = find_direction(monitor)
    better: Any = mode or usual
    scheduler = ReduceLROnPlateau(optimizer, mode=better, patience=patience, factor=factor)
    return {"scheduler": scheduler, "monitor": monitor, "interval": "epoch"}


def follow_cosine(optimizer: Optimizer, epochs: int, warmup: float, floor: float) -> dict[str, Any]:
    """Raise the learning rate linearly, then lower it along half a cosine (Loshchilov 2016).

    Args:
        optimizer: the optimizer whose learning rate is changed.
        epochs: number of epochs in total; afterwards the rate stays at its floor.
        warmup: share of the epochs during which the rate rises.
        floor: final rate, as a share of the full rate.

    Raises:
        InputError: there are no epochs, or a share is outside 0 to 1.
    """
    if epochs < 1 or not 0 <= warmup < 1 or not 0 <= floor <= 1:
        raise InputError(
            f"scheduler: epochs={epochs}, warmup={warmup}, floor={floor}; at least 1 epoch and "
            "shares from 0 to 1 are needed"
        )
    rising = round(warmup * epochs)

    def share(epoch: int) -> float:
        if epoch < rising:
            return (epoch + 1) / (rising + 1)
        progress = min((epoch - rising) / max(epochs - rising, 1), 1.0)
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

    return {"scheduler": LambdaLR(optimizer, share)}


def configure_optimizer(
    make_optimizer: Callable[[Iterable[Parameter]], Optimizer],
    make_scheduler: Callable[[Optimizer], Any],
    parameters: Iterable[Parameter],
) -> dict[str, Any]:
    """Make Lightning's config of an optimizer and its scheduler, either of which may be the user's.

    Raises:
        InputError: one of them fails, or is something else.
    """
    try:
        optimizer = make_optimizer(parameters)
        scheduler = make_scheduler(optimizer)
        check_schedule(optimizer, scheduler)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}
    except InputError:
        raise
    except Exception as error:
        where = find_own_line(error)
        if not where and not isinstance(error, ValueError | TypeError):  # an unknown setting
            raise
        text = " ".join(str(error).split())
        raise InputError(f"optimizer or scheduler{where}: {text}") from error


def check_schedule(optimizer: Any, scheduler: Any) -> None:
    """Check what the parts `optimizer` and `scheduler` have made.

    Args:
        optimizer: an optimizer.
        scheduler: Lightning's scheduler config, or a scheduler of PyTorch.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(optimizer, Optimizer):
        raise InputError(
            f"optimizer: it gives a {type(optimizer).__name__}; a torch.optim.Optimizer is needed"
        )
    config = scheduler if isinstance(scheduler, Mapping) else {"scheduler": scheduler}
    made = config.get("scheduler")
    if not isinstance(made, LRScheduler):
        raise InputError(
            f"scheduler: it gives a {type(made).__name__}; a scheduler of torch.optim.lr_scheduler "
            "is needed, or Lightning's dict with one as scheduler"
        )
    if isinstance(made, ReduceLROnPlateau) and "monitor" not in config:
        raise InputError(
            "scheduler: ReduceLROnPlateau needs a metric: choose scheduler=plateau, which is the "
            "same with scheduler.monitor=val/loss"
        )


def keep_learning_rate(optimizer: Optimizer) -> dict[str, Any]:
    """Keep the learning rate constant."""
    return {"scheduler": ConstantLR(optimizer, factor=1.0)}


def read_rate(rate: float | Tensor) -> float:
    """Read a learning rate; of float32, the number with the fewest digits that it stands for."""
    return float(str(np.float32(rate.item()))) if isinstance(rate, Tensor) else float(rate)
