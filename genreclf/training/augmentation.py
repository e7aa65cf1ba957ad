"""Augmentation of a batch of features (batch, bins, frames), on its device.

Random numbers come from PyTorch's global generator of the device, which training reseeds at each
epoch; so a run repeats bit for bit, with any number of workers.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

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
        draw = torch.rand(2, len(features), 1, 1, device=features.device)
        width = self.mask_min + (self.mask_max - self.mask_min) * draw[0]
        width = (width * features.shape[1]).round().clamp(min=1)
        return torch.where(
            _make_band(features, 1, width, draw[1]), self._filling(features), features
        )


def _make_band(features: Tensor, axis: int, width: Tensor, place: Tensor) -> Tensor:
    """True in a band of each clip, false elsewhere; it has one bin or one frame along the other.

    Args:
        features: (clips, bins, frames).
        axis: 1, along the bins, or 2, along the frames.
        width: whole numbers (clips, 1, 1), of the bands.
        place: (clips, 1, 1), from 0, the first that is possible, to 1, the last.
    """
    length = features.shape[axis]
    first = (place * (length - width + 1)).floor()
    number = torch.arange(length, device=features.device)
    number = number[:, None] if axis == 1 else number
    return (number >= first) & (number < first + width)


class SegmentEqualiseMask(nn.Module):
    """A part of each clip, as another recording of it might be: its own level, equaliser, key.

    In this order: a random segment; bins moved up or down, as a transposition moves the partials;
    a gain and a smooth curve over the bins, in dB for features in dB; bands of bins and frames
    masked (Park 2019) with the clip's mean.

    Args:
        silence: not used; masks hold no silence here.
        segment: share of the frames that is kept, one stretch of each clip; 1 for all.
        transpose: greatest number of bins that a clip is moved by.
        gain: standard deviation of a clip's gain, in the features' own unit.
        equaliser: that of the curve, at six bins evenly spread, straight between them.
        masks: bands masked along each axis.
        mask_bins: greatest width of a band of bins, as a share of them.
        mask_frames: that of a band of frames.

    Raises:
        InputError: a setting outside its range.
    """

    def __init__(
        self,
        silence: float | Sequence[float] = 0.0,
        segment: float = 0.5,
        transpose: int = 2,
        gain: float = 4.0,
        equaliser: float = 4.0,
        masks: int = 2,
        mask_bins: float = 0.125,
        mask_frames: float = 0.125,
    ) -> None:
        super().__init__()
        widest = max(mask_bins, mask_frames)
        if not 0 < segment <= 1 or min(mask_bins, mask_frames) < 0 or widest > 1:
            raise InputError(
                f"augmentation: segment={segment}, mask_bins={mask_bins}, mask_frames={mask_frames}"
                "; shares from 0 to 1 are needed, of a segment above 0"
            )
        if min(transpose, gain, equaliser, masks) < 0:
            raise InputError(
                f"augmentation: transpose={transpose}, gain={gain}, equaliser={equaliser}, masks="
                f"{masks}; none may be negative"
            )
        self.segment, self.transpose, self.gain = segment, transpose, gain
        self.equaliser, self.masks = equaliser, masks
        self.mask_bins, self.mask_frames = mask_bins, mask_frames

    def forward(self, features: Tensor) -> Tensor:
        """Augmented features, of as many frames as a segment has."""
        features = self._transpose(self._segment(features))
        features = features + self._draw_gains(features)
        filling = features.mean(dim=(1, 2), keepdim=True)
        masked = torch.zeros_like(features, dtype=torch.bool)
        for axis, share in [(1, self.mask_bins), (2, self.mask_frames)] * self.masks:
            draw = torch.rand(2, len(features), 1, 1, device=features.device)
            width = (draw[0] * (share * features.shape[axis] + 1)).floor()
            masked |= _make_band(features, axis, width, draw[1])
        return torch.where(masked, filling, features)

    def _segment(self, features: Tensor) -> Tensor:
        clips, bins, frames = features.shape
        length = max(1, round(self.segment * frames))
        first = torch.randint(frames - length + 1, (clips, 1, 1), device=features.device)
        kept = first + torch.arange(length, device=features.device)
        return features.gather(2, kept.expand(clips, bins, length))

    def _transpose(self, features: Tensor) -> Tensor:
        """Bins moved; those at the edge take the place of what is missing."""
        clips, bins, _ = features.shape
        by = torch.randint(
            -self.transpose, self.transpose + 1, (clips, 1, 1), device=features.device
        )
        origin = torch.arange(bins, device=features.device)[None, :, None] + by
        return features.gather(1, origin.clamp(0, bins - 1).expand_as(features))

    def _draw_gains(self, features: Tensor) -> Tensor:
        """Of each clip, to be added: (clips, bins, 1)."""
        clips, bins, _ = features.shape
        points = self.equaliser * torch.randn(clips, 1, 6, device=features.device)
        curve = interpolate(points, size=bins, mode="linear", align_corners=True).transpose(1, 2)
        return curve + self.gain * torch.randn(clips, 1, 1, device=features.device)
