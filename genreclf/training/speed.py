"""Measures how fast a model trains."""

import math
import time
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

STEPS = 3  # number of timed steps
CLASSES = 8


def measure_training_speed(
    net: nn.Module,
    make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    batch_size: int,
    shape: tuple[int, int],
) -> float:
    """Measure training steps on random features, on the GPU where there is one.

    Args:
        net: a classifier of 8 classes; its weights change.
        make_optimizer: makes an optimizer for its parameters.
        batch_size: clips per step.
        shape: (bins, frames) of the features.

    Returns:
        Clips per second for forward, backward and update together; infinite if the net has no
        parameters, such as an SVM, which is fitted without training steps.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = net.to(device)
    if next(net.parameters(), None) is None:
        return math.inf
    optimizer = make_optimizer(net.parameters())
    features = torch.randn(batch_size, *shape, device=device)
    labels = torch.arange(batch_size, device=device) % CLASSES

    def step() -> None:
        optimizer.zero_grad()
        loss = cross_entropy(net(features), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device

    step()  # the first step allocates and compiles
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * batch_size / (time.perf_counter() - start)
