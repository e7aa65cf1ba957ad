"""A convolutional network with attentive statistics pooling, for music by other artists."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genreclf.errors import InputError
from genreclf.models.rates import check_rates

BANDS = 8  # that the convolutions leave of 128 bins


class AttentiveCNN(nn.Module):
    """Four convolutional blocks, one over all bands, attentive statistics: 663,944 parameters.

    The first kernels are tall, so that they see the partials of a tone together; the frames that
    attention weights, each channel for itself, give a mean and a deviation over time (Okabe 2018).
    Any number of frames from 16 on goes in, so it may be trained on parts of a clip.

    Args:
        classes: number of classes.
        channels: of the four blocks.
        kernels: bins that the kernels of the four blocks span, odd; they span 3 frames.
        mixed: channels of the convolution over all bands.
        dropout: p before the last layer; half of it after the blocks.

    Attributes:
        axis: "time", of the steps that attention weights.
        embedding_size: of what `embed` gives.
    """

    min_size = 16  # bins, which are divided by 16, and frames, by 8
    axis = "time"

    def __init__(
        self,
        classes: int,
        channels: Sequence[int] = (32, 48, 96, 192),
        kernels: Sequence[int] = (9, 5, 3, 3),
        mixed: int = 256,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        check_rates(dropout=dropout)
        if len(channels) != 4 or len(kernels) != 4 or any(size % 2 == 0 for size in kernels):
            raise InputError(
                f"model.channels={list(channels)}, model.kernels={list(kernels)}: four of each are "
                "needed, and kernels span an odd number of bins"
            )
        inputs = (1, *channels)
        self.blocks = nn.Sequential(
            *(_block(inputs[i], inputs[i + 1], kernels[i], pool=i < 3) for i in range(4))
        )
        self.pool = nn.Sequential(
            nn.MaxPool2d((2, 1)), nn.AdaptiveAvgPool2d((BANDS, None)), nn.Dropout(dropout / 2)
        )
        self.mix = nn.Sequential(
            nn.Conv2d(channels[-1], mixed, (BANDS, 1), bias=False),
            nn.BatchNorm2d(mixed),
            nn.ReLU(inplace=True),
        )
        self.attention = nn.Sequential(
            nn.Conv1d(mixed, 64, 1), nn.Tanh(), nn.Conv1d(64, mixed, 1), nn.Softmax(dim=2)
        )
        self.embedding_size = 2 * mixed
        self.norm = nn.LayerNorm(self.embedding_size)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(self.embedding_size, classes)
        )

    def _sequence(self, features: Tensor) -> Tensor:
        """What attention looks at: (batch, mixed, steps)."""
        return self.mix(self.pool(self.blocks(features.unsqueeze(1)))).squeeze(2)

    def embed(self, features: Tensor) -> Tensor:
        """What the last layer decides by, and a teacher's targets are predicted from.

        Returns:
            (batch, embedding_size)
        """
        sequence = self._sequence(features)
        weights = self.attention(sequence)
        mean = (weights * sequence).sum(dim=2)
        variance = (weights * sequence.square()).sum(dim=2) - mean.square()
        return self.norm(torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch, classes) of features (batch, bins, frames)."""
        return self.classifier(self.embed(features))

    def attention_weights(self, features: Tensor) -> Tensor:
        """Weight of each step of 8 frames, (batch, steps), the mean over the channels."""
        return self.attention(self._sequence(features)).mean(dim=1)


def _block(inputs: int, outputs: int, bins: int, pool: bool) -> nn.Sequential:
    """Convolution, batch norm, ReLU; a max-pool that halves both."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (bins, 3), padding=(bins // 2, 1), bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        *([nn.MaxPool2d(2)] if pool else []),
    )
