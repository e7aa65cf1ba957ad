"""Networks whose convolution, batch norm, ReLU and max-pool run as one operation on the CPU.

Run separately, each of the four layers writes a tensor as large as the convolution's output, and
autograd keeps three of these tensors. `conv_norm_relu` says how the operation avoids that. The
results equal those of the four layers up to rounding.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genreclf.models.conv_norm_relu import apply_conv_norm_relu


def fuse(net: nn.Module) -> nn.Module:
    """Speed up a network in place; parameters and their names stay the same.

    Its memory format becomes channels last, and each `nn.Sequential` with batch norm runs the four
    layers as one where possible, which is only on the CPU.

    Returns:
        The network, or the sequential that replaces it.
    """
    for name, child in net.named_children():
        setattr(net, name, fuse(child))
    if type(net) is nn.Sequential and any(isinstance(m, nn.BatchNorm2d) for m in net):
        net = FusedSequential(OrderedDict(net.named_children())).train(net.training)
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class FusedSequential(nn.Sequential):
    """`nn.Sequential` that runs convolution, norm, ReLU and pool as one where possible."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute the output of the last module."""
        values, modules = input, [*self]
        while modules:
            if _can_fuse(values, modules[:3]):
                convolution, norm, _, *modules = modules
                if pool := bool(modules) and _is_halving(modules[0]):
                    del modules[0]
                values = apply_conv_norm_relu(values, convolution, norm, pool)  # pyright: ignore
            else:
                values = modules.pop(0)(values)
        return values


def _can_fuse(values: Tensor, modules: Sequence[Any]) -> bool:
    """Whether these are convolution, norm and ReLU, in float32 on the CPU, with usual settings."""
    if [type(module) for module in modules] != [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
        return False
    convolution, norm, _ = modules
    return (
        values.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and values.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and (convolution.stride, convolution.dilation) == ((1, 1), (1, 1))
        and (convolution.padding_mode, type(convolution.padding)) == ("zeros", tuple)
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
    )


def _is_halving(module: nn.Module) -> bool:
    """Whether this is a 2x2 max-pool with stride 2."""
    return type(module) is nn.MaxPool2d and (
        (module.kernel_size, module.stride, module.padding, module.dilation) == (2, 2, 0, 1)
        and not module.ceil_mode
    )
