"""Normalisation of features, as a module so that a checkpoint contains its offset and scale."""

from torch import Tensor, nn


class Normalise(nn.Module):
    """Computes `(features - offset) / scale`.

    Args:
        offset: (bins, 1), or (1, 1) for all bins.
        scale: likewise.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, offset: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("offset", offset.float())
        self.register_buffer("scale", scale.float())

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features (batch, bins, frames); their shape stays the same."""
        return (features - self.offset) / self.scale
