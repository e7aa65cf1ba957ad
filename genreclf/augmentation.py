"""Augmentation of a batch of features, on its device: (batch, bins, frames) -> the same shape.

Random numbers come from PyTorch's global generator of the device, which training reseeds at each
epoch; so a run repeats bit for bit, with any number of workers.
"""

import torch
from torch import Tensor, nn

from genreclf.errors import InputError


class NoiseAndShift(nn.Module):
    """Noise, shift in time, both or neither: a quarter of the clips each (paper, Table VII).

    Args:
        silence: value of a silent frame, which fills the gap that a shift leaves.
        noise: standard deviation of the Gaussian noise, as a share of the clip's range of values
            (the report does not state a unit).
        shift: largest shift to either side, as a share of the frames.
    """

    def __init__(self, silence: float, noise: float = 0.005, shift: float = 0.1) -> None:
        super().__init__()
        if noise < 0 or not 0 <= shift < 1:
            raise InputError("augmentation: noise of at least 0 and shift from 0 to 1 are needed")
        self.silence, self.noise, self.shift = silence, noise, shift

    def forward(self, features: Tensor) -> Tensor:
        """Augmented features."""
        noisy, shifted = torch.rand(2, len(features), 1, 1, device=features.device) < 0.5
        features = torch.where(shifted, self._shift(features), features)
        return torch.where(noisy, self._add_noise(features), features)

    def _add_noise(self, features: Tensor) -> Tensor:
        span = features.amax(dim=(1, 2), keepdim=True) - features.amin(dim=(1, 2), keepdim=True)
        return features + self.noise * span * torch.randn_like(features)

    def _shift(self, features: Tensor) -> Tensor:
        """Move each clip by its own number of frames, silence coming in."""
        batch, _, frames = features.shape
        largest = int(self.shift * frames)
        by = torch.randint(-largest, largest + 1, (batch, 1, 1), device=features.device)
        origin = torch.arange(frames, device=features.device) - by
        moved = features.gather(2, origin.clamp(0, frames - 1).expand_as(features))
        return moved.masked_fill((origin < 0) | (origin >= frames), self.silence)
