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

    Each `nn.Sequential` with batch norm runs the four layers as one where possible, which is only
    on the CPU. The memory format of genreclf's own networks becomes channels last; other networks
    may depend on theirs (`view`).

    Returns:
        The network, or the sequential that replaces it.
    """
    is_ours = type(net).__module__.startswith("genreclf.")
    net = _replace_sequentials(net, is_ours, {})
    if is_ours:
        net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return net


def _replace_sequentials(
    net: nn.Module, channels_last: bool, replaced: dict[nn.Module, nn.Module]
) -> nn.Module:
    """Replace all sequentials with batch norm; a module that occurs twice stays one module."""
    if net not in replaced:
        for name, child in net._modules.items():
            if child is not None:
                net._modules[name] = _replace_sequentials(child, channels_last, replaced)
        replaced[net] = net
        has_norm = any(isinstance(module, nn.BatchNorm2d) for module in net.children())
        if type(net) is nn.Sequential and has_norm and not _has_hooks(net):
            fused = FusedSequential(OrderedDict(net._modules.items()))  # pyright: ignore
            fused.channels_last = channels_last
            replaced[net] = fused.train(net.training)
    return replaced[net]


class FusedSequential(nn.Sequential):
    """`nn.Sequential` that runs convolution, norm, ReLU and pool as one where possible.

    Attributes:
        channels_last: whether results may be channels last, as those of the operation are.
    """

    channels_last = True

    def forward(self, input: Tensor) -> Tensor:
        """Compute the output of the last module."""
        values, modules = input, [*self]
        while modules:
            if _can_fuse(values, modules[:3]):
                convolution, norm, _, *modules = modules
                if pool := bool(modules) and _is_halving(modules[0]):
                    del modules[0]
                values = apply_conv_norm_relu(values, convolution, norm, pool)  # pyright: ignore
                if not self.channels_last:
                    values = values.contiguous()
            else:
                values = modules.pop(0)(values)
        return values


def _can_fuse(values: Tensor, modules: Sequence[Any]) -> bool:
    """Whether these are convolution, norm and ReLU, in float32 on the CPU, with usual settings."""
    if [type(module) for module in modules] != [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
        return False
    if any(map(_has_hooks, modules)):
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


def _has_hooks(module: nn.Module) -> bool:
    """Whether a call does more than the forward pass, as with `nn.utils.weight_norm`."""
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return any(getattr(module, name) for name in hooks)


def _is_halving(module: nn.Module) -> bool:
    """Whether this is a 2x2 max-pool with stride 2."""
    return (type(module) is nn.MaxPool2d and not _has_hooks(module)) and (
        (module.kernel_size, module.stride, module.padding, module.dilation) == (2, 2, 0, 1)
        and not module.ceil_mode
    )
