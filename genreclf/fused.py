"""Convolution, batch norm, ReLU and max-pool as one operation of the CPU.

One after the other, each of the four writes a tensor of the convolution's size, and autograd keeps
three of them. Here the convolution goes a few clips at a time, which stay in the cache; only pooled
values are kept, and the backward pass repeats the convolution. That is possible since

- ReLU and max-pool can change places;
- batch norm is `a * x + b` in each channel: where `a` is not negative it can follow the max-pool,
  and a negative one is made positive by turning the signs of the convolution's weights;
- the gradient of batch norm, `a * (g - mean(g) - z * mean(g * z))` with normalised values z
  (Ioffe and Szegedy 2015), needs sums over pooled values alone, as g is zero elsewhere.

The results are those of the four but for rounding.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, max_pool2d

AT_ONCE = 4_000_000  # values of a convolution, 16 MB; but one clip at least


def fuse(net: nn.Module) -> nn.Module:
    """The same net, with the same parameters under the same names, made fast.

    Its memory format is channels last, and each `nn.Sequential` that pools takes the four together
    where it can, which is on the CPU.
    """
    for name, child in net.named_children():
        setattr(net, name, fuse(child))
    if type(net) is nn.Sequential and any(isinstance(m, nn.MaxPool2d) for m in net):
        net = FusedSequential(OrderedDict(net.named_children())).train(net.training)
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class FusedSequential(nn.Sequential):
    """`nn.Sequential` that takes convolution, norm, ReLU and pool together where it can."""

    def forward(self, input: Tensor) -> Tensor:
        """What the modules give, one after the other."""
        values, modules = input, [*self]
        while modules:
            if _fusable(values, modules[:4]):
                convolution, norm, _, _, *modules = modules
                values = conv_norm_relu_pool(values, convolution, norm)  # pyright: ignore
            else:
                values = modules.pop(0)(values)
        return values


def _fusable(values: Tensor, modules: Sequence[Any]) -> bool:
    """Whether these are the four in float32 on the CPU, with settings as in the paper's nets."""
    if [type(module) for module in modules] != [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]:
        return False
    convolution, norm, _, pool = modules
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and (convolution.stride, convolution.dilation) == ((1, 1), (1, 1))
        and (convolution.padding_mode, type(convolution.padding)) == ("zeros", tuple)
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and (pool.kernel_size, pool.stride, pool.padding, pool.dilation) == (2, 2, 0, 1)
        and not pool.ceil_mode
    )


@torch.compiler.disable
def conv_norm_relu_pool(values: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """(batch, channels, height, width) -> (batch, outputs, height // 2, width // 2).

    In training, mean and variance are the batch's, and go into the norm's running averages.
    """
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    kernel, bias = convolution.weight, convolution.bias
    form: Any = {"padding": convolution.padding, "groups": convolution.groups}
    if norm.training:
        arguments = values, kernel, bias, norm.weight, norm.bias, norm.eps, form
        pooled, of_batch, unbiased = _Training.apply(*arguments)  # pyright: ignore
        with torch.no_grad():
            mean.lerp_(of_batch, norm.momentum or 0.0)
            variance.lerp_(unbiased, norm.momentum or 0.0)
            norm.num_batches_tracked.add_(1)  # pyright: ignore[reportOptionalMemberAccess]
        return pooled
    scale = norm.weight * (variance + norm.eps).rsqrt()
    shift = norm.bias - mean * scale + (0.0 if bias is None else bias * scale)
    kernel = kernel * scale[:, None, None, None]
    parts = values.split(_clips(values, kernel))
    return torch.cat([max_pool2d(conv2d(part, kernel, shift, **form), 2).relu() for part in parts])


def _clips(values: Tensor, kernel: Tensor) -> int:
    """How many clips to convolve at once."""
    return max(1, AT_ONCE // (len(kernel) * values.shape[2] * values.shape[3]))


def _column(values: Tensor) -> Tensor:
    """(channels,) -> (channels, 1, 1)."""
    return values[:, None, None]


class _Training(torch.autograd.Function):
    """Pooled values, and mean and unbiased variance of the convolution."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        kernel: Tensor,
        bias: Tensor | None,
        gain: Tensor,
        offset: Tensor,
        eps: float,
        form: dict[str, Any],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gain and offset are the norm's, form the further settings of the convolution."""
        sign = torch.where(gain < 0, -1.0, 1.0)
        kernel = kernel * sign[:, None, None, None]
        bias = None if bias is None else bias * sign
        moments, counts, parts = [], [], []
        for part in values.split(_clips(values, kernel)):
            convolved = conv2d(part, kernel, bias, **form)
            moments.append(torch.batch_norm_update_stats(convolved, None, None, 0.0))
            counts.append(convolved[:, 0].numel())
            parts.append(max_pool2d(convolved, 2))
        count = sum(counts)
        shares = torch.tensor(counts)[:, None] / count
        means, variances = map(torch.stack, zip(*moments, strict=True))
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean).square())).sum(0)
        scale = (variance + eps).rsqrt()
        normal = torch.cat(parts).sub_(_column(mean)).mul_(_column(scale))
        output = torch.addcmul(_column(offset), normal, _column(gain.abs())).relu_()
        ctx.save_for_backward(values, kernel, bias, gain, mean, scale, normal, output)
        ctx.form, ctx.count = form, count
        statistics = mean * sign, variance * count / (count - 1)
        ctx.mark_non_differentiable(*statistics)
        return output, *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        """Gradients of `forward`'s first five arguments."""
        values, kernel, bias, gain, mean, scale, normal, output = ctx.saved_tensors
        sign = torch.where(gain < 0, -1.0, 1.0)
        gradient = torch.ops.aten.threshold_backward(gradients[0], output, 0)  # of ReLU
        clips = _clips(values, kernel)
        parts = list(zip(*(t.split(clips) for t in (values, gradient, normal)), strict=True))
        of_offset = gradient.sum((0, 2, 3))
        of_gain = sum((part * z).sum((0, 2, 3)) for _, part, z in parts)
        # The convolution's gradient: factor * gradient - constant - slope * convolution.
        factor = gain.abs() * scale
        slope = factor * scale * of_gain / ctx.count
        constant = factor * of_offset / ctx.count - slope * mean
        gradient.mul_(_column(factor))
        weights = [t.detach().requires_grad_() for t in (kernel, bias) if t is not None]
        of_weights = [torch.zeros_like(tensor) for tensor in weights]
        of_values = torch.empty_like(values) if ctx.needs_input_grad[0] else None
        for number, (part, of_pooled, _) in enumerate(parts):
            part = part.detach().requires_grad_(of_values is not None)
            with torch.enable_grad():
                convolved = conv2d(part, *weights, **ctx.form)
                pooled = max_pool2d(convolved, 2)
            (of_convolved,) = torch.autograd.grad(pooled, convolved, of_pooled)
            others = convolved.detach().mul_(_column(slope)).add_(_column(constant))
            inputs = [*weights, part] if of_values is not None else weights
            found = torch.autograd.grad(convolved, inputs, of_convolved.sub_(others))
            for total, more in zip(of_weights, found, strict=False):
                total += more
            if of_values is not None:
                of_values[number * clips :][: len(part)] = found[-1]
        of_kernel = of_weights[0] * sign[:, None, None, None]
        of_bias = None if bias is None else of_weights[1] * sign
        return of_values, of_kernel, of_bias, of_gain * sign, of_offset, None, None
