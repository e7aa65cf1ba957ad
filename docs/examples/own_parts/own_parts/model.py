"""A model: convolutions over time, averaged."""

from torch import Tensor, nn


class TimeCNN(nn.Module):
    """Two convolutions over time and their mean.

    Args:
        classes: number of genres; genreclf passes it.
        bins: number of bins of the features.
        channels: channels of both convolutions.
    """

    min_size = 5  # bins and frames that it needs; 1 if missing

    def __init__(self, classes: int, bins: int = 7, channels: int = 32) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(bins, channels, 5, padding=2),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 5, padding=2),
            nn.ReLU(),
        )
        self.head = nn.Linear(channels, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits (batch, classes) of features (batch, bins, frames)."""
        return self.head(self.convolutions(features).mean(dim=2))
