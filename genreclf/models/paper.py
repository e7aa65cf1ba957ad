"""The networks of the paper: (batch, bins, frames) -> logits (batch, classes).

Pooling halves bins and frames three or four times, so each network has a `min_size` for both.
Layers and sizes: paper, section IV and Table III.
"""

from collections import OrderedDict
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from genreclf.errors import InputError
from genreclf.models.layers import check_rates

TRUNK_CHANNELS = 128


def make_separable_block(inputs: int, outputs: int) -> nn.Sequential:
    """Make a depthwise 3x3 and a pointwise 1x1 convolution, with batch norm and ReLU; 2x2 max-pool.

    Depthwise separable convolutions: Howard 2017.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


def make_trunk(dropout: float) -> nn.Sequential:
    """Make the trunk: (batch, 1, bins, frames) -> (batch, 128, bins // 8, frames // 8).

    It drops whole channels, at rate `dropout / 2` after the second block, `dropout` after the last.
    """
    return nn.Sequential(
        OrderedDict(
            block1=nn.Sequential(
                nn.Conv2d(1, 32, 3, padding=1),
                nn.BatchNorm2d(32),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ),
            block2=make_separable_block(32, 64),
            drop2=nn.Dropout2d(dropout / 2),
            block3=make_separable_block(64, TRUNK_CHANNELS),
            drop3=nn.Dropout2d(dropout),
        )
    )


def make_conventional_block(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """Make two 3x3 convolutions, each with batch norm and ReLU; then 2x2 max-pool and dropout."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(dropout),
    )


class ConventionalCNN(nn.Module):
    """Four blocks of ordinary convolutions, three linear layers: 3,404,648 parameters at 8 classes.

    The paper's first baseline, which it rejects for its size ("more than 1 million parameters").

    Args:
        classes: number of classes.
        dropout: dropout rate after each block and each hidden linear layer.
    """

    min_size = 16  # the blocks divide bins and frames by 16

    def __init__(self, classes: int, dropout: float = 0.25) -> None:
        super().__init__()
        check_rates(dropout=dropout)
        channels = (1, 32, 64, 128, 256)
        self.blocks = nn.Sequential(
            *(make_conventional_block(*pair, dropout) for pair in pairwise(channels))
        )
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels[-1] * 4 * 4, 512),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(512, 256),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(256, classes),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits (batch, classes) of features (batch, bins, frames)."""
        return self.classifier(self.pool(self.blocks(features.unsqueeze(1))))


class EfficientCNN(nn.Module):
    """Trunk, global average, two linear layers: 16,456 parameters with 8 classes.

    Args:
        classes: number of classes.
        cnn_dropout: dropout rate of the trunk, first halved, then in full.
        classifier_dropout: dropout rate of the classifier, first in full, then halved.
    """

    min_size = 8  # the trunk divides bins and frames by 8

    def __init__(
        self, classes: int, cnn_dropout: float = 0.3, classifier_dropout: float = 0.3
    ) -> None:
        super().__init__()
        check_rates(cnn_dropout=cnn_dropout, classifier_dropout=classifier_dropout)
        self.trunk = make_trunk(cnn_dropout)
        self.classifier = nn.Sequential(
            nn.Dropout(classifier_dropout),
            nn.Linear(TRUNK_CHANNELS, 32),
            nn.ReLU(),
            nn.Dropout(classifier_dropout / 2),
            nn.Linear(32, classes),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits (batch, classes) of features (batch, bins, frames)."""
        return self.classifier(self.trunk(features.unsqueeze(1)).mean(dim=(2, 3)))


class Attention(nn.Module):
    """Softmax-weighted sum over a sequence: (batch, steps, size) -> (batch, size)."""

    def __init__(self, size: int, hidden: int = 16) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def compute_weights(self, sequence: Tensor) -> Tensor:
        """Compute the weight of each step, (batch, steps, 1), summing to 1 over the steps."""
        return self.score(sequence).softmax(dim=1)

    def forward(self, sequence: Tensor) -> Tensor:
        """Compute the weighted sum (batch, size)."""
        return (self.compute_weights(sequence) * sequence).sum(dim=1)


class CNNRNN(nn.Module):
    """Trunk, recurrent layers with a residual, attention.

    It has 38,889 parameters (GRU) or 46,185 (LSTM) with 8 classes; 161 more with the unused gate.

    Args:
        classes: number of classes.
        cell: kind of the two recurrent layers, "gru" or "lstm".
        axis: axis of the sequence: "time", as in the paper, or "frequency", as in the published
            scripts, which average over time and run over the remaining 16 mel bands.
        cnn_dropout: dropout rate of the trunk, first halved, then in full.
        classifier_dropout: dropout rate before the last layer.
        hidden: size of the recurrent layers.
        unused_gate: keep the fusion gate, Linear(160, 1), which the published scripts create for
            Table III but never call; it only changes the parameter count.
    """

    min_size = 8  # the trunk divides bins and frames by 8

    def __init__(
        self,
        classes: int,
        cell: Literal["gru", "lstm"] = "gru",
        axis: Literal["time", "frequency"] = "time",
        cnn_dropout: float = 0.3,
        classifier_dropout: float = 0.3,
        hidden: int = 32,
        unused_gate: bool = False,
    ) -> None:
        super().__init__()
        check_rates(cnn_dropout=cnn_dropout, classifier_dropout=classifier_dropout)
        cells = {"gru": nn.GRU, "lstm": nn.LSTM}
        pooled_axes = {"time": 2, "frequency": 3}  # of (batch, channels, bins, frames)
        if cell not in cells:
            raise InputError(f"model.cell={cell!r}: choose gru or lstm")
        if axis not in pooled_axes:
            raise InputError(f"model.axis={axis!r}: choose time or frequency")
        self.axis, self.pooled_axis = axis, pooled_axes[axis]
        self.trunk = make_trunk(cnn_dropout)
        self.rnn = cells[cell](TRUNK_CHANNELS, hidden, num_layers=2, batch_first=True)
        self.residual = nn.Linear(TRUNK_CHANNELS, hidden)
        self.attention = Attention(hidden)
        self.classifier = nn.Sequential(nn.Dropout(classifier_dropout), nn.Linear(hidden, classes))
        if unused_gate:
            self.gate = nn.Linear(TRUNK_CHANNELS + hidden, 1)

    def _compute_sequence(self, features: Tensor) -> Tensor:
        """Compute the input of the attention, (batch, steps, hidden)."""
        sequence = self.trunk(features.unsqueeze(1)).mean(dim=self.pooled_axis).transpose(1, 2)
        recurrent, _ = self.rnn(sequence)
        return recurrent + self.residual(sequence)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits (batch, classes) of features (batch, bins, frames)."""
        return self.classifier(self.attention(self._compute_sequence(features)))

    def compute_attention(self, features: Tensor) -> Tensor:
        """Compute the weight of each step, (batch, steps), summing to 1 over the steps.

        A step is 8 frames (axis "time") or 8 bins (axis "frequency") wide.
        """
        return self.attention.compute_weights(self._compute_sequence(features)).squeeze(2)
