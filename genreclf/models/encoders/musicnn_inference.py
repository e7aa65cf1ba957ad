"""musicnn for inference on a CPU: the same values as `Musicnn` in a fraction of the time.

Three things make the difference:

- A maximum over bands follows each filter of the front end, so bias, ReLU and batch norm, which are
  monotone, are applied to one value per frame instead of to one per band and frame. Where the slope
  of the batch norm is negative, the filter is negated: the maximum is then the minimum that counts.
- The horizontal filters have one input channel, with which vector units are idle. So 16 frames in a
  row become channels, for 16 outputs at a time.
- One patch at a time keeps the values in the processor's cache.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from genreclf.models.encoders.musicnn import FRAMES, Musicnn, Pooled, divide_padding

BLOCK = 16  # neighbouring frames that are channels of the horizontal filters
CHANNELS_LAST = torch.channels_last


class MusicnnInference(nn.Module):
    """A trained `Musicnn` whose batch norms are part of its weights. It cannot be trained.

    Args:
        net: the trained network; it remains as it is.
    """

    def __init__(self, net: Musicnn) -> None:
        super().__init__()
        slope, shift = _read_norm(net.norm)
        self.slope, self.shift = float(slope), float(shift)
        self.vertical = nn.ModuleList(VerticalFilters(layer) for layer in net.vertical)
        self.horizontal = nn.ModuleList(HorizontalFilters(layer) for layer in net.horizontal)
        self.middle = nn.ModuleList(InnerLayer(layer) for layer in net.middle)
        self.dense = _fold_before(net.pooled_norm, net.dense)
        self.dense_slope, self.dense_shift = _read_norm(net.dense_norm)
        self.tags = net.tags
        self.requires_grad_(False).eval()

    def pool(self, patches: Tensor) -> Pooled:
        """Compute what `Musicnn.pool` computes of patches (patches, bins, frames)."""
        pooled = [self._pool_patch(patch) for patch in patches.split(1)]
        return Pooled(*(torch.cat(each) for each in zip(*pooled, strict=True)))

    def embed(self, pooled: Pooled) -> Tensor:
        """Compute what `Musicnn.embed` computes: (patches, units)."""
        units = functional.relu(self.dense(torch.cat(pooled, dim=1)))
        return units * self.dense_slope + self.dense_shift

    def _pool_patch(self, patch: Tensor) -> Pooled:
        rows = (patch * self.slope + self.shift).transpose(1, 2).contiguous()  # (1, frames, bands)
        channels = torch.cat([layer(rows) for layer in (*self.vertical, *self.horizontal)], dim=2)
        channels = channels.transpose(1, 2)
        first = self.middle[0](channels)
        second = self.middle[1](first) + first
        third = self.middle[2](second) + second
        layers = channels, first, second, third
        return Pooled(
            torch.cat([layer.amax(dim=2) for layer in layers], dim=1),
            torch.cat([layer.mean(dim=2) for layer in layers], dim=1),
        )


class _Filters(nn.Module):
    """Filters of the front end with what follows their maximum over the bands."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.norm_slope, self.norm_shift = _read_norm(layer.norm)
        self.sign = torch.where(self.norm_slope < 0, -1.0, 1.0)
        self.bias = layer.conv.bias.detach().clone()

    def finish(self, highest: Tensor) -> Tensor:
        """Compute bias, ReLU and norm of the maxima (..., filters) of the signed filters."""
        return functional.relu(highest * self.sign + self.bias) * self.norm_slope + self.norm_shift


class VerticalFilters(_Filters):
    """Filters that are almost as high as the spectrogram."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        kernel = layer.conv.weight.detach() * self.sign[:, None, None, None]
        self.kernel = kernel.transpose(2, 3).contiguous(memory_format=CHANNELS_LAST)

    def forward(self, rows: Tensor) -> Tensor:
        """Compute the channels (patches, frames, filters) of rows (patches, frames, bands)."""
        padded = functional.pad(rows, (0, 0, FRAMES // 2, FRAMES // 2))[:, None]
        padded = padded.to(memory_format=CHANNELS_LAST)
        values = functional.conv2d(padded, self.kernel)  # (patches, filters, frames, positions)
        return self.finish(values.permute(0, 2, 3, 1).amax(dim=2))


class HorizontalFilters(_Filters):
    """Long filters, each applied to every band, 16 frames at a time."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        kernel = layer.conv.weight.detach()[:, 0, 0] * self.sign[:, None]
        self.filters, length = kernel.shape
        self.left = divide_padding(length)[0]
        self.blocks = -(-(length + BLOCK - 1) // BLOCK)
        spare = self.blocks * BLOCK - length
        shifted = [functional.pad(kernel, (at, spare - at)) for at in range(BLOCK)]
        blocks = torch.stack(shifted).reshape(BLOCK * self.filters, self.blocks, 1, BLOCK)
        self.kernel = blocks.permute(0, 3, 2, 1).contiguous(memory_format=CHANNELS_LAST)

    def forward(self, rows: Tensor) -> Tensor:
        """Compute the channels (patches, frames, filters) of rows (patches, frames, bands)."""
        patches, frames, bands = rows.shape
        outputs = -(-frames // BLOCK)
        size = (outputs + self.blocks - 1) * BLOCK
        padded = functional.pad(rows.transpose(1, 2), (self.left, size - frames - self.left))
        blocks = padded.reshape(patches, bands, -1, BLOCK).permute(0, 3, 1, 2)
        values = functional.conv2d(blocks, self.kernel)  # (patches, 16 filters, bands, outputs)
        highest = values.permute(0, 2, 3, 1).amax(dim=1)
        return self.finish(highest.reshape(patches, outputs * BLOCK, self.filters)[:, :frames])


class InnerLayer(nn.Module):
    """A layer of the middle: convolution over time, ReLU and norm."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        slope, shift = _read_norm(layer.norm)
        self.conv, self.norm_slope, self.norm_shift = layer.conv, slope[:, None], shift[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """Compute (patches, filters, frames) of (patches, channels, frames)."""
        return functional.relu(self.conv(x)) * self.norm_slope + self.norm_shift


def _read_norm(norm: Any) -> tuple[Tensor, Tensor]:
    """Read the slope and shift of a batch norm in inference."""
    slope = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    return slope, (norm.bias - norm.running_mean * slope).detach()


def _fold_before(norm: Any, dense: nn.Linear) -> nn.Linear:
    """Fold a batch norm into the linear layer that follows it."""
    slope, shift = _read_norm(norm)
    folded = nn.Linear(dense.in_features, dense.out_features)
    with torch.no_grad():
        folded.weight.copy_(dense.weight * slope)
        folded.bias.copy_(dense.bias + dense.weight @ shift)
    return folded
