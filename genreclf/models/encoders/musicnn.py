"""musicnn, a network that tags music: Pons and Serra 2019, arXiv:1909.06654; 2017, 1711.02520.

The front end has vertical filters, almost as high as the spectrogram, for timbre at any pitch, and
horizontal filters, up to 2 s long, for rhythm and loudness. Three densely connected layers and the
maximum and mean over time follow.

This is the network as it is trained. `musicnn_inference` computes the same values faster.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from genreclf.errors import InputError
from genreclf.models.layers import check_rates

PATCH = 187  # frames, 3 s: the network is trained on patches and averages their outputs
FRAMES = 7  # width of the vertical and the inner filters
EPSILON, MOMENTUM = 1e-3, 0.01  # of the batch norms, TensorFlow's defaults


class Pooled(NamedTuple):
    """Maximum and mean of each channel over the time of a patch: (patches, channels) each."""

    maximum: Tensor
    mean: Tensor


class ConvNorm(nn.Module):
    """Convolution, ReLU, batch norm; in this order, which is not the usual one."""

    def __init__(self, conv: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        norm = nn.BatchNorm2d if isinstance(conv, nn.Conv2d) else nn.BatchNorm1d
        self.conv = conv
        self.norm = norm(conv.out_channels, eps=EPSILON, momentum=MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the normalised activations."""
        return self.norm(functional.relu(self.conv(x)))


class TallConv(nn.LazyConv2d):
    """A convolution whose filters have a share of the height of the first input that it gets."""

    def __init__(self, filters: int, share: float) -> None:
        super().__init__(filters, (1, FRAMES))
        self.share = share

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Make the weights, once the height of the input is known."""
        if self.has_uninitialized_params():  # pyright: ignore
            self.kernel_size = (max(1, int(self.share * input.shape[2])), FRAMES)
        super().initialize_parameters(input, *args, **kwargs)


class Musicnn(nn.Module):
    """The tagging network: 787,159 parameters with 50 classes and 96 bins.

    Args:
        classes: number of classes, or of tags.
        timbre: filters of each vertical kind.
        heights: their heights, as shares of the bins.
        rhythm: filters of each horizontal kind.
        lengths: their lengths in frames.
        middle: filters of each inner layer.
        units: units of the last layer but one.
        dropout: dropout rate before the last two layers.

    Raises:
        InputError: a setting is out of its range.
    """

    last_layer = "tags"

    def __init__(
        self,
        classes: int,
        timbre: int = 204,
        heights: Sequence[float] = (0.4, 0.7),
        rhythm: int = 51,
        lengths: Sequence[int] = (128, 64, 32),
        middle: int = 64,
        units: int = 200,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_rates(dropout=dropout)
        if not heights or not all(0 < share <= 1 for share in heights):
            raise InputError(f"model.heights={[*heights]}: numbers above 0 and up to 1 are needed")
        if not lengths or min(timbre, rhythm, middle, units, *lengths) < 1:
            raise InputError(
                f"model.lengths={[*lengths]}, timbre={timbre}, rhythm={rhythm}, middle={middle}, "
                f"units={units}: numbers of 1 or more are needed"
            )
        self.lengths, self.embedding_size = lengths, units
        self.channels = timbre * len(heights) + rhythm * len(lengths)
        self.norm = nn.BatchNorm2d(1, eps=EPSILON, momentum=MOMENTUM)
        self.vertical = nn.ModuleList(ConvNorm(TallConv(timbre, share)) for share in heights)
        self.horizontal = nn.ModuleList(
            ConvNorm(nn.Conv2d(1, rhythm, (1, length))) for length in lengths
        )
        self.middle = nn.ModuleList(
            ConvNorm(nn.Conv1d(inputs, middle, FRAMES, padding=FRAMES // 2))
            for inputs in (self.channels, middle, middle)
        )
        self.pooled = self.channels + 3 * middle
        self.pooled_norm = nn.BatchNorm1d(2 * self.pooled, eps=EPSILON, momentum=MOMENTUM)
        self.dense = nn.Linear(2 * self.pooled, units)
        self.dense_norm = nn.BatchNorm1d(units, eps=EPSILON, momentum=MOMENTUM)
        self.tags = nn.Linear(units, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, embedded: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Compute logits (batch, classes) of features (batch, bins, frames).

        A clip that is longer than a patch is divided into patches, whose outputs are averaged; what
        remains at its end is not used.

        Args:
            features: mel spectrograms; the batch norm of the input adapts to their scale.
            embedded: also return the values of the last layer but one, (batch, units).
        """
        units = self.embed(self.pool(divide_clips(features)))
        units = units.unflatten(0, (features.shape[0], -1)).mean(dim=1)
        logits = self.tags(self.dropout(units))
        return (logits, units) if embedded else logits

    def pool(self, patches: Tensor) -> Pooled:
        """Compute the maximum and mean over time of the channels of all layers.

        Args:
            patches: (patches, bins, frames).
        """
        x = self.norm(patches[:, None])
        sides = FRAMES // 2
        tall = [layer(functional.pad(x, (sides, sides))).amax(dim=2) for layer in self.vertical]
        flat = [
            layer(functional.pad(x, divide_padding(length))).amax(dim=2)
            for length, layer in zip(self.lengths, self.horizontal, strict=True)
        ]
        channels = torch.cat([*tall, *flat], dim=1)
        first = self.middle[0](channels)
        second = self.middle[1](first) + first
        third = self.middle[2](second) + second
        dense = torch.cat([channels, first, second, third], dim=1)
        return Pooled(dense.amax(dim=2), dense.mean(dim=2))

    def embed(self, pooled: Pooled) -> Tensor:
        """Compute the normalised units (patches, units) of the last layer but one."""
        both = self.dropout(self.pooled_norm(torch.cat(pooled, dim=1)))
        return self.dense_norm(functional.relu(self.dense(both)))


@fx.wrap  # a single step for torch.fx, which cannot follow the condition
def divide_clips(features: Tensor) -> Tensor:
    """Divide clips (batch, bins, frames) into patches (batch * patches, bins, frames)."""
    if features.shape[2] <= PATCH:
        return features
    return features.unfold(2, PATCH, PATCH).transpose(1, 2).flatten(0, 1)


def divide_padding(length: int) -> tuple[int, int]:
    """Divide the padding of a filter over both sides, as TensorFlow does: more at the end."""
    return (length - 1) // 2, length // 2
