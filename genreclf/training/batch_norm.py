"""Batch normalisation over the whole batch where several processes have a share of it each.

PyTorch's SyncBatchNorm does the same on GPUs alone.
"""

from typing import Any

import torch
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, distributed, nn


class _Sum(torch.autograd.Function):
    """Sum over all processes, of values and, backwards, of gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def _sum(values: Tensor) -> Tensor:
    total: Any = _Sum.apply(values)
    return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """In training its statistics are those of all processes' (share, channels, height, width)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalised input, of the same shape."""
        if not self.training:
            return super().forward(input)
        axes = [0, 2, 3]
        values = input.float()
        count = _sum(values.new_tensor(values[:, 0].numel()))
        mean = _sum(values.sum(axes)) / count
        centred = values - mean[:, None, None]
        variance = _sum(centred.square().sum(axes)) / count
        self._remember(mean, variance * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Keep running averages, as the plain one does."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum or 0.1)
        self.running_var.lerp_(variance, self.momentum or 0.1)


class BatchNormOfAll(LayerSync):
    """Lightning's plugin that makes a net's batch normalisation one of the whole batch."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Before training."""
        return _recast(model, nn.BatchNorm2d, SharedBatchNorm2d)

    def revert(self, model: nn.Module) -> nn.Module:
        """After it."""
        return _recast(model, SharedBatchNorm2d, nn.BatchNorm2d)


def _recast(model: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> nn.Module:
    for module in model.modules():
        if type(module) is old:
            module.__class__ = new  # weights and settings are the same
    return model
