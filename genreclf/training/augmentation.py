"""Augmentation of a batch of features (batch, bins, frames), on its device.

Random numbers come from PyTorch's global generator of the device, which training reseeds at each
epoch, so a run is reproducible bit for bit with any number of workers.
"""

import logging
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from genreclf.errors import InputError

log = logging.getLogger(__name__)


def check_augmentation(augmentation: Any, features: Any, key: str = "augmentation") -> None:
    """Check that features are what an augmentation needs.

    Args:
        augmentation: its attribute `requires`, if it has one, maps an attribute of the features to
            the value needed and to the names of the settings that are 0 where it is not needed.
        features: the features of the run; what they do not declare is assumed, with a warning.
        key: config key of the augmentation.

    Raises:
        InputError: features declare something else.
    """
    for attribute, (needed, names) in getattr(augmentation, "requires", {}).items():
        declared = getattr(features, attribute, None)
        if declared == needed:
            continue
        avoided = " ".join(f"{key}.{name}=0" for name in names)
        if declared is not None:
            raise InputError(
                f"{key} needs features whose {attribute} is {needed!r}, that of features="
                f"{features.name} is {declared!r}: set {avoided}, or choose another augmentation"
            )
        log.warning(
            "features=%s declare no %s, which %s needs to be %r: this is assumed; otherwise set %s",
            *(features.name, attribute, key, needed, avoided),
        )


class NoiseShiftMask(nn.Module):
    """Leaves a share of the clips as they are; adds noise, a time shift or both to the others.

    By default each of the four cases is equally likely (paper, section III-C).

    If masking is on, all clips that are not left as they are also lose a band of bins. The paper
    lists masking in Table VII without saying how it is combined, and the published scripts lack it.

    Args:
        silence: values of a silent frame: one for all bins, or one per bin.
        noise: standard deviation of the Gaussian noise.
        noise_unit: unit of `noise`. "range": a share of the clip's range of values (the paper
            states no unit); "value": the features' own unit, such as dB (the published scripts).
        shift: largest shift in either direction, as a share of the frames.
        mask_min: smallest width of the masked band, as a share of the bins, but at least one bin.
        mask_max: largest width; 0 for no masking.
        fill: value of shifted-in frames and masked bins; None for `silence`. The published scripts
            fill with 0 dB, the loudest value.
        unchanged: share of the clips that are left as they are; the others get noise, a shift or
            both, equally often.

    Raises:
        InputError: a setting is outside its range.
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
        unchanged: float = 0.25,
    ) -> None:
        super().__init__()
        if not 0 <= unchanged <= 1:
            raise InputError(f"augmentation.unchanged={unchanged}: a share from 0 to 1 is needed")
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
        self.mask_min, self.mask_max, self.unchanged = mask_min, mask_max, unchanged
        filling = torch.tensor(silence if fill is None else fill, dtype=torch.float32)
        self.register_buffer("filling", filling.reshape(-1, 1), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Augment the features."""
        draw = torch.rand(2, len(features), 1, 1, device=features.device)
        changed = 1 - self.unchanged
        noisy = draw[0] < 2 * changed / 3
        shifted = draw[1] < torch.where(noisy, 0.5, changed / (1 + 2 * self.unchanged))
        features = torch.where(shifted, self._shift(features), features)
        features = torch.where(noisy, self._add_noise(features), features)
        return torch.where(noisy | shifted, self._mask(features), features)

    def _expand_filling(self, features: Tensor) -> Tensor:
        return self.filling.to(features.device).expand_as(features)

    def _add_noise(self, features: Tensor) -> Tensor:
        noise = self.noise * torch.randn_like(features)
        if self.noise_unit == "value":
            return features + noise
        span = features.amax(dim=(1, 2), keepdim=True) - features.amin(dim=(1, 2), keepdim=True)
        return features + span * noise

    def _shift(self, features: Tensor) -> Tensor:
        """Shift each clip by its own random number of frames, and fill the gap."""
        batch, _, frames = features.shape
        largest = int(self.shift * frames)
        by = torch.randint(-largest, largest + 1, (batch, 1, 1), device=features.device)
        origin = torch.arange(frames, device=features.device) - by
        moved = features.gather(2, origin.clamp(0, frames - 1).expand_as(features))
        outside = (origin < 0) | (origin >= frames)
        return torch.where(outside, self._expand_filling(features), moved)

    def _mask(self, features: Tensor) -> Tensor:
        """Silence a band of bins in each clip, of random width and position."""
        if not self.mask_max:
            return features
        draw = torch.rand(2, len(features), 1, 1, device=features.device)
        width = self.mask_min + (self.mask_max - self.mask_min) * draw[0]
        width = (width * features.shape[1]).round().clamp(min=1)
        return torch.where(
            _make_band(features, 1, width, draw[1]), self._expand_filling(features), features
        )


def _make_band(features: Tensor, axis: int, width: Tensor, place: Tensor) -> Tensor:
    """Make a mask that is true in a band of each clip; its other axis has length 1.

    Args:
        features: (clips, bins, frames).
        axis: 1, along the bins, or 2, along the frames.
        width: the width of each band, whole numbers (clips, 1, 1).
        place: the position of each band (clips, 1, 1), from 0 for the first possible to 1 for the
            last.
    """
    length = features.shape[axis]
    first = (place * (length - width + 1)).floor()
    number = torch.arange(length, device=features.device)
    number = number[:, None] if axis == 1 else number
    return (number >= first) & (number < first + width)


class SegmentEqualiseMask(nn.Module):
    """Varies a part of each clip as another recording might: in level, equalisation and key.

    The steps, in order: cut a random segment; move the bins up or down, as transposition moves the
    partials; add a gain and a smooth curve over the bins, both in dB; mask bands of bins and of
    frames (Park 2019) with the clip's mean.

    Args:
        silence: not used, because masks are filled with the clip's mean.
        segment: share of the frames to keep, in one stretch; 1 for all.
        transpose: largest number of bins by which a clip is moved.
        gain: standard deviation of the gain of a clip, in dB.
        equaliser: standard deviation of the curve at six evenly spaced bins, in dB; it is
            interpolated linearly between them.
        masks: number of bands masked along each axis.
        mask_bins: largest width of a band of bins, as a share of all bins.
        mask_frames: largest width of a band of frames, as a share of all frames.

    Raises:
        InputError: a setting is outside its range.
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
                "; shares from 0 to 1 are needed, and a segment above 0"
            )
        if min(transpose, gain, equaliser, masks) < 0:
            raise InputError(
                f"augmentation: transpose={transpose}, gain={gain}, equaliser={equaliser}, masks="
                f"{masks}; none may be negative"
            )
        self.segment, self.transpose, self.gain = segment, transpose, gain
        self.equaliser, self.masks = equaliser, masks
        self.mask_bins, self.mask_frames = mask_bins, mask_frames
        self.requires: dict[str, tuple[str, list[str]]] = {}  # see `check_augmentation`
        if gain or equaliser:
            self.requires["unit"] = "dB", ["gain", "equaliser"]
        if transpose:
            self.requires["bin_axis"] = "frequency", ["transpose"]

    def forward(self, features: Tensor) -> Tensor:
        """Augment the features; the result has as many frames as a segment."""
        features = self._transpose(self._cut_segment(features))
        features = features + self._draw_gains(features)
        filling = features.mean(dim=(1, 2), keepdim=True)
        masked = torch.zeros_like(features, dtype=torch.bool)
        for axis, share in [(1, self.mask_bins), (2, self.mask_frames)] * self.masks:
            draw = torch.rand(2, len(features), 1, 1, device=features.device)
            width = (draw[0] * (share * features.shape[axis] + 1)).floor()
            masked |= _make_band(features, axis, width, draw[1])
        return torch.where(masked, filling, features)

    def _cut_segment(self, features: Tensor) -> Tensor:
        clips, bins, frames = features.shape
        length = max(1, round(self.segment * frames))
        first = torch.randint(frames - length + 1, (clips, 1, 1), device=features.device)
        kept = first + torch.arange(length, device=features.device)
        return features.gather(2, kept.expand(clips, bins, length))

    def _transpose(self, features: Tensor) -> Tensor:
        """Move the bins; repeat the outermost bin to fill the gap."""
        clips, bins, _ = features.shape
        by = torch.randint(
            -self.transpose, self.transpose + 1, (clips, 1, 1), device=features.device
        )
        origin = torch.arange(bins, device=features.device)[None, :, None] + by
        return features.gather(1, origin.clamp(0, bins - 1).expand_as(features))

    def _draw_gains(self, features: Tensor) -> Tensor:
        """Draw the values to add to each clip, (clips, bins, 1)."""
        clips, bins, _ = features.shape
        points = self.equaliser * torch.randn(clips, 1, 6, device=features.device)
        curve = interpolate(points, size=bins, mode="linear", align_corners=True).transpose(1, 2)
        return curve + self.gain * torch.randn(clips, 1, 1, device=features.device)
