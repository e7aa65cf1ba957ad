"""Normalisation of features as a module, whose numbers a checkpoint keeps."""

from torch import Tensor, nn


class Normalise(nn.Module):
    """`(features - offset) / scale`, both (bins, 1) or (1, 1)."""

    offset: Tensor
    scale: Tensor

    def __init__(self, offset: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("offset", offset.float())
        self.register_buffer("scale", scale.float())

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features."""
        return (features - self.offset) / self.scale
