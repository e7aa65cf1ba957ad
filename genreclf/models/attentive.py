"""A convolutional network with attentive statistics pooling, for music by other artists."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from genreclf.errors import InputError
from genreclf.models.layers import check_rates

BANDS = 8  # that the convolutions leave of 128 bins
HEADS = 4  # of an encoder layer


class AttentiveCNN(nn.Module):
    """Four convolutional blocks, one over all bands, attentive statistics: 955,000 parameters.

    The first kernels are tall, so that they see the partials of a tone together; the frames that
    attention weights, each channel for itself, give a mean and a deviation over time (Okabe 2018).
    Any number of frames from 16 on goes in, so it may be trained on parts of a clip.

    Args:
        classes: number of classes.
        channels: of the four blocks.
        kernels: bins that the kernels of each of the four blocks span, odd; a list for kernels of
            several heights side by side, which share the block's channels.
        frames: that the kernels span, odd.
        mixed: channels of the convolution over all bands.
        dropout: p before the last layer; half of it after the blocks.
        squeeze: the blocks weigh their channels (squeeze-and-excitation, Hu 2018), by a layer of so
            many times fewer; 0 for none.
        encoders: transformer layers (Vaswani 2017) over the steps before they are pooled.
        attention: units by which each step gets its weight; 0 for the same weight everywhere.
        segments: outside of training, logits are the mean of those of so many parts of the clip,
            each half as long as it, evenly spread; 1 for the whole clip at once.

    Attributes:
        axis: "time", of the steps that attention weights.
        embedding_size: of what the last layer decides by, and a distillation's targets are predicted
            from.

    Raises:
        InputError: a setting outside its range.
    """

    min_size = 16  # bins, which are divided by 16, and frames, by 8
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

    def _sequence(self, features: Tensor) -> Tensor:
        """What attention looks at: (batch, mixed, steps)."""
        sequence = self.mix(self.pool(self.blocks(features.unsqueeze(1)))).squeeze(2)
        if len(self.encoders):
            sequence = self.encoders(sequence.transpose(1, 2)).transpose(1, 2)
        return sequence

    def _embed(self, features: Tensor) -> Tensor:
        """(batch, embedding_size)."""
        sequence = self._sequence(features)
        weights, values = self._weights(sequence), sequence.float()
        mean = (weights * values).sum(dim=2)
        variance = (weights * (values - mean[:, :, None]).square()).sum(dim=2)
        pooled = torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=1)
        return self.norm(pooled.to(sequence.dtype))

    def _weights(self, sequence: Tensor) -> Tensor:
        """Of each step and channel; in float32, as sums over steps need."""
        scores = (
            self.attention(sequence) if self.attention is not None else torch.zeros_like(sequence)
        )
        return scores.float().softmax(dim=2)

    def forward(self, features: Tensor, embedded: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (batch, classes) of features (batch, bins, frames).

        With `embedded` besides, of the clip as a whole, the embedding (batch, embedding_size).
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

    def attention_weights(self, features: Tensor) -> Tensor:
        """Weight of each step of 8 frames, (batch, steps), the mean over the channels."""
        return self._weights(self._sequence(features)).mean(dim=1)


class Sizes(nn.ModuleList):
    """Convolutions with kernels of several sizes side by side, each with its share of channels."""

    def __init__(self, inputs: int, outputs: int, sizes: Sequence[tuple[int, int]]) -> None:
        ends = [outputs * i // len(sizes) for i in range(len(sizes) + 1)]
        super().__init__(
            _make_convolution(inputs, end - start, size)
            for (start, end), size in zip(pairwise(ends), sizes, strict=True)
        )

    def forward(self, values: Tensor) -> Tensor:
        """Their values, (batch, outputs, bins, frames)."""
        return torch.cat([convolution(values) for convolution in self], dim=1)


class SqueezeExcitation(nn.Module):
    """Weighs channels by what they hold on average (Hu 2018)."""

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
        """The same, weighed."""
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
            f"{frames}: four of the first two are needed; kernels span odd numbers"
        )
    sizes = [[(height, frames) for height in of_block] for of_block in heights]
    ends = pairwise((1, *channels))
    return [
        _make_block(*pair, sizes[i], pool=i < 3, squeeze=squeeze) for i, pair in enumerate(ends)
    ]


def _make_block(
    inputs: int, outputs: int, sizes: Sequence[tuple[int, int]], pool: bool, squeeze: int
) -> nn.Sequential:
    """Convolution, batch norm, ReLU; a max-pool that halves both; channels weighed."""
    several = len(sizes) > 1
    return nn.Sequential(
        Sizes(inputs, outputs, sizes) if several else _make_convolution(inputs, outputs, sizes[0]),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        *([nn.MaxPool2d(2)] if pool else []),
        *([SqueezeExcitation(outputs, squeeze)] if squeeze else []),
    )
