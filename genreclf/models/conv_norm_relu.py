"""Convolution, batch norm, ReLU and max-pool as one operation on the CPU.

The convolution processes a few clips at a time, which stay in the cache. Only its pooled values are
kept for the backward pass; if there are too many, none are kept and the convolution is repeated.
With or without the max-pool, this works because

- ReLU and max-pool commute;
- batch norm is `a * x + b` in each channel: if `a` is not negative it can follow the max-pool, and
  a negative `a` is made positive by flipping the signs of the convolution's weights;
- the gradient of batch norm, `a * (g - mean(g) - z * mean(g * z))` with normalised values z
  (Ioffe and Szegedy 2015), only needs sums over pooled values, as g is zero elsewhere.
"""

import math
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, max_pool2d

aten = torch.ops.aten
PART_SIZE = 4_000_000  # output values (16 MB) to convolve at a time; at least one clip
KEPT = 8_000_000  # maximum number of pooled values kept for the backward pass


def apply_conv_norm_relu(
    values: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d, pool: bool
) -> Tensor:
    """Run convolution, batch norm, ReLU and, optionally, max-pool as one operation.

    In training, mean and variance are those of the batch, and the running averages are updated.

    Args:
        values: (batch, channels, height, width).
        convolution: the convolution.
        norm: the batch norm.
        pool: whether a 2x2 max-pool follows the ReLU.

    Returns:
        (batch, outputs, height, width), or (batch, outputs, height // 2, width // 2) with `pool`.
    """
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    kernel, bias = convolution.weight, convolution.bias
    form: Any = {"padding": convolution.padding, "groups": convolution.groups}
    if norm.training:
        arguments = values, kernel, bias, norm.weight, norm.bias, norm.eps, form, pool
        result, of_batch, unbiased = _Training.apply(*arguments)  # pyright: ignore
        with torch.no_grad():
            mean.lerp_(of_batch, norm.momentum or 0.0)
            variance.lerp_(unbiased, norm.momentum or 0.0)
            norm.num_batches_tracked.add_(1)  # pyright: ignore[reportOptionalMemberAccess]
        return result
    scale = norm.weight * (variance + norm.eps).rsqrt()
    shift = norm.bias - mean * scale + (0.0 if bias is None else bias * scale)
    kernel = kernel * scale[:, None, None, None]
    parts = values.split(_count_clips(values, kernel))
    return torch.cat([_pool(conv2d(part, kernel, shift, **form), pool).relu() for part in parts])


def _count_clips(values: Tensor, kernel: Tensor) -> int:
    """Count the clips to convolve at a time, so that the parts are as equal as possible."""
    clips, _, height, width = values.shape
    times = min(clips, math.ceil(clips * len(kernel) * height * width / PART_SIZE))
    return math.ceil(clips / times)


def _pool(values: Tensor, pool: bool) -> Tensor:
    return max_pool2d(values, 2) if pool else values


def _reshape_column(values: Tensor) -> Tensor:
    """Reshape (channels,) to (channels, 1, 1)."""
    return values[:, None, None]


def _compute_moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and variance of each channel.

    In this memory format PyTorch adds the values of a channel one by one, which loses three digits
    on long clips. So each channel is split into up to 64 sums, as if these were channels.
    """
    count = values[:, 0].numel()
    sums = math.gcd(count, 64)
    columns = values.permute(0, 2, 3, 1).reshape(count // sums, -1, 1, 1)
    means, variances = torch.batch_norm_update_stats(columns, None, None, 0.0)
    return _combine_moments(
        torch.full((sums, 1), 1 / sums), means.view(sums, -1), variances.view(sums, -1)
    )


def _combine_moments(shares: Tensor, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and variance over all parts: (parts, channels) -> (channels,)."""
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0)


def _normalise_centred(
    centred: Tensor, norm: Sequence[Tensor], out: Tensor | None = None
) -> Tensor:
    """Apply batch norm to values with mean 0."""
    scale, gain, offset = norm
    return torch.addcmul(_reshape_column(offset), centred, _reshape_column(gain * scale), out=out)


class _Training(torch.autograd.Function):
    """Returns the values after ReLU and pool, and the convolution's mean and unbiased variance."""

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
        pool: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the output; `gain` and `offset` are the norm's, `form` has padding and groups."""
        sign = torch.where(gain < 0, -1.0, 1.0)
        kernel = kernel * sign[:, None, None, None]
        bias = torch.zeros_like(gain) if bias is None else bias * sign
        moments, counts, parts = [], [], []
        clips = _count_clips(values, kernel)
        for part in values.split(clips):
            convolved = conv2d(part, kernel, bias, **form)
            moments.append(_compute_moments(convolved))
            counts.append(convolved[:, 0].numel())
            parts.append(_pool(convolved, pool))
        shares = torch.tensor(counts)[:, None] / sum(counts)
        mean, variance = _combine_moments(shares, *map(torch.stack, zip(*moments, strict=True)))
        norm = (variance + eps).rsqrt(), gain.abs(), offset
        shape = len(values), *parts[0].shape[1:]
        output = torch.empty(shape, memory_format=torch.channels_last)
        for part, place in zip(parts, output.split(clips), strict=True):
            _normalise_centred(part.sub_(_reshape_column(mean)), norm, out=place).relu_()
        kept = parts if output.numel() <= KEPT else []
        ctx.save_for_backward(values, kernel, bias - mean, sign, *norm, *kept)
        ctx.form, ctx.pool, ctx.count = form, pool, sum(counts)
        statistics = mean * sign, variance * ctx.count / (ctx.count - 1)
        ctx.mark_non_differentiable(*statistics)
        return output, *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        """Compute the gradients with respect to the first five arguments of `forward`."""
        values, kernel, bias, sign, scale, gain, offset, *kept = ctx.saved_tensors
        norm = scale, gain, offset
        clips = _count_clips(values, kernel)
        parts = list(
            zip(values.split(clips), gradients[0].split(clips), kept or repeat(None), strict=False)
        )
        of_offset, of_gain = torch.zeros_like(offset), torch.zeros_like(gain)
        for part, of_output, centred in parts:
            if centred is None:
                centred = _pool(conv2d(part, kernel, bias, **ctx.form), ctx.pool)
            gradient = aten.threshold_backward(of_output, _normalise_centred(centred, norm), 0)
            of_offset += gradient.sum((0, 2, 3))
            of_gain += gradient.mul_(centred).sum((0, 2, 3)) * scale
        # The convolution's gradient: factor * gradient - constant - slope * centred convolution.
        factor = gain * scale
        slope = factor * scale * of_gain / ctx.count
        constant = factor * of_offset / ctx.count
        of_values = torch.empty_like(values) if ctx.needs_input_grad[0] else None
        of_kernel = torch.zeros_like(kernel)
        for number, (part, of_output, centred) in enumerate(parts):
            convolved = centred
            if ctx.pool or centred is None:
                convolved = conv2d(part, kernel, bias, **ctx.form)
            if centred is None:
                centred = _pool(convolved, ctx.pool)
            gradient = aten.threshold_backward(of_output, _normalise_centred(centred, norm), 0)
            gradient.mul_(_reshape_column(factor))
            if ctx.pool:
                gradient = _backpropagate_max_pool(gradient, convolved)
            gradient -= torch.addcmul(_reshape_column(constant), convolved, _reshape_column(slope))
            needed = ctx.needs_input_grad[0]
            of_part, more = _backpropagate_convolution(gradient, part, kernel, ctx.form, needed)
            of_kernel += more
            if of_values is not None and of_part is not None:
                of_values[number * clips :][: len(part)] = of_part
        of_kernel *= sign[:, None, None, None]
        # The norm cancels the bias.
        of_bias = torch.zeros_like(offset) if ctx.needs_input_grad[2] else None
        return of_values, of_kernel, of_bias, of_gain * sign, of_offset, None, None, None


def _backpropagate_max_pool(gradient: Tensor, values: Tensor) -> Tensor:
    """Compute the gradient with respect to the input of a max-pool."""
    _, places = aten.max_pool2d_with_indices(values, 2)
    form = [2, 2], [2, 2], [0, 0], [1, 1], False
    return aten.max_pool2d_with_indices_backward(gradient, values, *form, places)


def _backpropagate_convolution(
    gradient: Tensor, values: Tensor, kernel: Tensor, form: dict[str, Any], of_values: bool
) -> tuple[Tensor | None, Tensor]:
    """Compute the gradients with respect to a convolution's input, if needed, and its kernel."""
    ones, needed = [1, 1], [of_values, True, False]
    further = None, ones, form["padding"], ones, False, [0, 0], form["groups"]
    return aten.convolution_backward(gradient, values, kernel, *further, needed)[:2]
