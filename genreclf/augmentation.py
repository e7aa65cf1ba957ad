"""Augmentation of a batch of features, on its device: (batch, bins, frames) -> the same shape.

Random numbers come from PyTorch's global generator of the device, which training reseeds at each
epoch; so a run repeats bit for bit, with any number of workers.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from genreclf.errors import InputError


class NoiseShiftMask(nn.Module):
    """A quarter of the clips as they are, noisy, shifted in time, or both (paper, section III-C).

    Where masking is asked for, all but the first quarter lose a band of bins as well: the report
    lists it in Table VII without saying how it joins the mix, and the published scripts lack it.

    Args:
        silence: values of a silent frame, one or one a bin.
        noise: standard deviation of the Gaussian noise.
        noise_unit: of `noise`. "range": a share of the clip's range of values (the report states
            no unit); "value": the features' own, such as dB (the published scripts).
        shift: largest shift to either side, as a share of the frames.
        mask_min: least width of the masked band, as a share of the bins; it is one bin at least.
        mask_max: greatest width; 0 for no masking.
        fill: value of shifted-in frames and masked bins; None for `silence`. The published scripts
            fill with 0 dB, the loudest value.

    Raises:
        InputError: a setting outside its range.
    """

    filling: Tensor

    def __init__(
        self,
        silence: float | Sequence[float],
        noise: float = 0.005,
        noise_unit: Literal["range", "value"] = "range",
        shift: float = 0.1,
        mask_min: float = 0.02,
        mask_max: float = 0.05,
        fill: float | None = None,
    ) -> None:
        super().__init__()
        if noise < 0 or not 0 <= shift < 1 or not 0 <= mask_min <= mask_max < 1:
            raise InputError(
                "augmentation: noise of at least 0, shift from 0 to 1, and mask_min up to mask_max "
                "from 0 to 1 are needed"
            )
        if noise_unit not in ("range", "value"):
            raise InputError(f"augmentation.noise_unit={noise_unit!r}: choose range or value")
        if not isinstance(fill, int | float | None):
            raise InputError(f"augmentation.fill={fill!r}: a number is needed; null is silence")
        self.noise, self.noise_unit, self.shift = noise, noise_unit, shift
        self.mask_min, self.mask_max = mask_min, mask_max
        filling = torch.tensor(silence if fill is None else fill, dtype=torch.float32)
        self.register_buffer("filling", filling.reshape(-1, 1), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Augmented features."""
        noisy, shifted = torch.rand(2, len(features), 1, 1, device=features.device) < 0.5
        features = torch.where(shifted, self._shift(features), features)
        features = torch.where(noisy, self._add_noise(features), features)
        return torch.where(noisy | shifted, self._mask(features), features)

    def _filling(self, features: Tensor) -> Tensor:
        return self.filling.to(features.device).expand_as(features)

    def _add_noise(self, features: Tensor) -> Tensor:
        noise = self.noise * torch.randn_like(features)
        if self.noise_unit == "value":
            return features + noise
        span = features.amax(dim=(1, 2), keepdim=True) - features.amin(dim=(1, 2), keepdim=True)
        return features + span * noise

    def _shift(self, features: Tensor) -> Tensor:
        """Move each clip by its own number of frames, silence coming in."""
        batch, _, frames = features.shape
        largest = int(self.shift * frames)
        by = torch.randint(-largest, largest + 1, (batch, 1, 1), device=features.device)
        origin = torch.arange(frames, device=features.device) - by
        moved = features.gather(2, origin.clamp(0, frames - 1).expand_as(features))
        outside = (origin < 0) | (origin >= frames)
        return torch.where(outside, self._filling(features), moved)

    def _mask(self, features: Tensor) -> Tensor:
        """Silence a band of each clip's bins, of its own width at its own place."""
        if not self.mask_max:
            return features
        batch, bins, _ = features.shape
        draw = torch.rand(2, batch, 1, 1, device=features.device)
        width = self.mask_min + (self.mask_max - self.mask_min) * draw[0]
        width = (width * bins).round().clamp(min=1)
        first = (draw[1] * (bins - width + 1)).floor()
        bin_number = torch.arange(bins, device=features.device).reshape(1, bins, 1)
        masked = (bin_number >= first) & (bin_number < first + width)
        return torch.where(masked, self._filling(features), features)
