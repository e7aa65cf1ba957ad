"""A convolutional network with attentive statistics pooling, which generalises to new artists."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from genreclf.errors import InputError
from genreclf.models.layers import check_rates

BANDS = 8  # frequency bands left after the blocks, of 128 bins
HEADS = 4  # attention heads of each transformer layer


class AttentiveCNN(nn.Module):
    """Four convolutional blocks, a convolution over all bands, attentive statistics pooling.

    955,000 parameters with 8 classes. The first kernels are tall and so cover several partials of a
    tone. Attention weights each time step, separately for each channel; the weighted mean and
    standard deviation over time are the embedding (attentive statistics pooling, Okabe 2018). It
    takes 16 frames or more, so it can be trained on segments of clips.

    Args:
        classes: number of classes.
        channels: number of channels of each of the four blocks.
        kernels: height of each block's kernels in bins, odd; a list means parallel kernels of
            several heights, which share the block's channels.
        frames: width of all kernels in frames, odd.
        mixed: number of channels of the convolution over all bands.
        dropout: dropout rate before the last layer; half of it after the blocks.
        squeeze: reduction ratio of squeeze-and-excitation in the blocks (Hu 2018); 0 for none.
        encoders: number of transformer layers (Vaswani 2017) over the steps before pooling.
        attention: number of hidden units of the attention; 0 for equal weights.
        segments: in evaluation, logits are the mean over this many evenly spaced segments, each
            half as long as the clip; 1 for the whole clip.

    Attributes:
        axis: the axis of the attention, "time".
        embedding_size: size of the embedding, the input of the last layer; knowledge distillation
            predicts its targets from it.

    Raises:
        InputError: a setting is outside its range.
    """

    min_size = 16  # bins are divided by 16, frames by 8
    axis = "time"

    def __init__(
        self,
        classes: int,
        channels: Sequence[int] = (32, 64, 128, 224),
        kernels: Sequence[int | Sequence[int]] = (9, 5, 3, 3),
        frames: int = 3,
        mixed: int = 304,
        dropout: float = 0.3,
        squeeze: int = 0,
        encoders: int = 0,
        attention: int = 64,
        segments: int = 1,
    ) -> None:
        super().__init__()
        check_rates(dropout=dropout)
        if min(squeeze, encoders, attention) < 0 or segments < 1 or (encoders and mixed % HEADS):
            raise InputError(
                f"model.squeeze={squeeze}, model.encoders={encoders}, model.attention={attention}, "
                f"model.segments={segments}: at least 0, 0, 0 and 1 are needed; with encoders, "
                f"{HEADS} must divide model.mixed"
            )
        self.segments = segments
        self.blocks = nn.Sequential(*_make_blocks(channels, kernels, frames, squeeze))
        self.pool = nn.Sequential(
            nn.MaxPool2d((2, 1)), nn.AdaptiveAvgPool2d((BANDS, None)), nn.Dropout(dropout / 2)
        )
        self.mix = nn.Sequential(
            nn.Conv2d(channels[-1], mixed, (BANDS, 1), bias=False),
            nn.BatchNorm2d(mixed),
            nn.ReLU(inplace=True),
        )
        layer: Any = partial(nn.TransformerEncoderLayer, batch_first=True, norm_first=True)
        self.encoders = nn.Sequential(
            *(layer(mixed, HEADS, mixed, dropout / 2) for _ in range(encoders))
        )
        self.attention = (
            nn.Sequential(nn.Conv1d(mixed, attention, 1), nn.Tanh(), nn.Conv1d(attention, mixed, 1))
            if attention
            else None
        )
        self.embedding_size = 2 * mixed
        self.norm = nn.LayerNorm(self.embedding_size)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(self.embedding_size, classes)
        )

    def _compute_sequence(self, features: Tensor) -> Tensor:
        """Compute the input of the attention, (batch, mixed, steps)."""
        sequence = self.mix(self.pool(self.blocks(features.unsqueeze(1)))).squeeze(2)
        if len(self.encoders):
            sequence = self.encoders(sequence.transpose(1, 2)).transpose(1, 2)
        return sequence

    def _embed(self, features: Tensor) -> Tensor:
        """Compute the embedding, (batch, embedding_size)."""
        sequence = self._compute_sequence(features)
        weights, values = self._compute_weights(sequence), sequence.float()
        mean = (weights * values).sum(dim=2)
        variance = (weights * (values - mean[:, :, None]).square()).sum(dim=2)
        pooled = torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=1)
        return self.norm(pooled.to(sequence.dtype))

    def _compute_weights(self, sequence: Tensor) -> Tensor:
        """Compute attention weights (batch, mixed, steps) in float32, as they are summed."""
        scores = (
            self.attention(sequence) if self.attention is not None else torch.zeros_like(sequence)
        )
        return scores.float().softmax(dim=2)

    def forward(self, features: Tensor, embedded: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the logits (batch, classes) of features (batch, bins, frames).

        With `embedded`, return logits and embedding (batch, embedding_size) of the whole clip.
        """
        if self.training or self.segments == 1 or embedded:
            embedding = self._embed(features)
            logits = self.classifier(embedding)
            return (logits, embedding) if embedded else logits
        frames = features.shape[2]
        length = max(self.min_size, frames // 2)
        first = [i * (frames - length) // (self.segments - 1) for i in range(self.segments)]
        parts = [self.classifier(self._embed(features[:, :, i : i + length])) for i in first]
        return torch.stack(parts).mean(dim=0)

    def compute_attention(self, features: Tensor) -> Tensor:
        """Compute the mean weight, over all channels, of each step of 8 frames: (batch, steps)."""
        return self._compute_weights(self._compute_sequence(features)).mean(dim=1)


class ParallelConvolutions(nn.ModuleList):
    """Parallel convolutions with kernels of several sizes, which share the output channels."""

    def __init__(self, inputs: int, outputs: int, sizes: Sequence[tuple[int, int]]) -> None:
        ends = [outputs * i // len(sizes) for i in range(len(sizes) + 1)]
        super().__init__(
            _make_convolution(inputs, end - start, size)
            for (start, end), size in zip(pairwise(ends), sizes, strict=True)
        )

    def forward(self, values: Tensor) -> Tensor:
        """Compute the concatenated outputs (batch, outputs, bins, frames)."""
        return torch.cat([convolution(values) for convolution in self], dim=1)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a factor computed from the means of all channels (Hu 2018)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, values: Tensor) -> Tensor:
        """Scale the values; their shape stays the same."""
        return values * self.weigh(values)


def _are_odd(sizes: Sequence[int]) -> bool:
    return bool(sizes) and all(size > 0 and size % 2 for size in sizes)


def _make_convolution(inputs: int, outputs: int, size: tuple[int, int]) -> nn.Conv2d:
    padding = (size[0] // 2, size[1] // 2)
    return nn.Conv2d(inputs, outputs, size, padding=padding, bias=False)


def _make_blocks(
    channels: Sequence[int], kernels: Sequence[int | Sequence[int]], frames: int, squeeze: int
) -> list[nn.Sequential]:
    heights = [[size] if isinstance(size, int) else [*size] for size in kernels]
    if len(channels) != 4 or len(heights) != 4 or not all(map(_are_odd, [*heights, [frames]])):
        raise InputError(
            f"model.channels={list(channels)}, model.kernels={list(kernels)}, model.frames="
            f"{frames}: four channels and four kernels are needed, and odd kernels and frames"
        )
    sizes = [[(height, frames) for height in of_block] for of_block in heights]
    ends = pairwise((1, *channels))
    return [
        _make_block(*pair, sizes[i], pool=i < 3, squeeze=squeeze) for i, pair in enumerate(ends)
    ]


def _make_block(
    inputs: int, outputs: int, sizes: Sequence[tuple[int, int]], pool: bool, squeeze: int
) -> nn.Sequential:
    """Make convolution, batch norm, ReLU; optionally 2x2 max-pool and squeeze-and-excitation."""
    several = len(sizes) > 1
    return nn.Sequential(
        ParallelConvolutions(inputs, outputs, sizes)
        if several
        else _make_convolution(inputs, outputs, sizes[0]),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        *([nn.MaxPool2d(2)] if pool else []),
        *([SqueezeExcitation(outputs, squeeze)] if squeeze else []),
    )
