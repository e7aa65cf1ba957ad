"""Features of stored waveforms, computed for a batch on its device while training.

torchaudio's counterparts of the classes in `features`, from (batch, 1, samples) to
(batch, bins, frames). Tests compare them with librosa, within TOLERANCE.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchaudio import transforms
from torchaudio.functional import create_dct

from genreclf.audio.features import MFCC, Chroma, Mel
from genreclf.audio.filterbank import MIN_POWER
from genreclf.audio.own_features import get_stored
from genreclf.errors import InputError

TOLERANCE = {"mel": 0.01, "mfcc": 0.01, "chroma": 1e-4}  # largest difference from librosa


class BatchMel(nn.Module):
    """`Mel` for a batch of waveforms."""

    def __init__(self, mel: Mel) -> None:
        super().__init__()
        self.top_db = mel.top_db
        self.power = transforms.MelSpectrogram(
            mel.sample_rate,
            n_fft=mel.n_fft,
            hop_length=mel.hop_length,
            n_mels=mel.n_mels,
            norm="slaney",
            mel_scale="slaney",
            pad_mode="constant",
        )
        if mel.n_fft % 2 or mel.sample_rate % 2:
            # torchaudio takes the last frequency of a spectrum for half the sample rate, rounded.
            import librosa

            filters = librosa.filters.mel(sr=mel.sample_rate, n_fft=mel.n_fft, n_mels=mel.n_mels)
            self.power.mel_scale.fb = torch.from_numpy(filters.T.copy())

    def forward(self, waveforms: Tensor) -> Tensor:
        """Levels (batch, bins, frames) in [-top_db, 0] dB, relative to each clip's loudest bin."""
        level = 10 * self.power(waveforms.squeeze(1)).clamp(min=MIN_POWER).log10()
        level = level - level.amax(dim=(1, 2), keepdim=True)
        return level.clamp(min=-self.top_db)


class BatchMFCC(nn.Module):
    """`MFCC` for a batch of waveforms."""

    def __init__(self, mfcc: MFCC) -> None:
        super().__init__()
        self.mel = BatchMel(mfcc)
        dct = create_dct(mfcc.n_mfcc, mfcc.n_mels, norm="ortho")  # (n_mels, n_mfcc)
        self.register_buffer("dct", dct.T.contiguous(), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Coefficients (batch, n_mfcc, frames), lowest first."""
        return self.get_buffer("dct") @ self.mel(waveforms)


class BatchChroma(nn.Module):
    """`Chroma` for a batch of waveforms."""

    def __init__(self, chroma: Chroma) -> None:
        super().__init__()
        import librosa

        self.power = transforms.Spectrogram(
            chroma.n_fft, hop_length=chroma.hop_length, pad_mode="constant"
        )
        filters = librosa.filters.chroma(
            sr=chroma.sample_rate, n_fft=chroma.n_fft, n_chroma=chroma.n_chroma
        )
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Energies (batch, n_chroma, frames), at most 1 in each frame; 0 in a silent frame."""
        energy = self.get_buffer("filters") @ self.power(waveforms.squeeze(1))
        strongest = energy.amax(dim=1, keepdim=True)
        tiny = torch.finfo(energy.dtype).tiny
        return torch.where(strongest < tiny, energy, energy / strongest.clamp(min=tiny))


def build_batch_features(features: Any) -> nn.Module:
    """Build the module that computes features of stored waveforms, or else the identity.

    Raises:
        InputError: there is no such module for this class.
    """
    if get_stored(features) is features:
        return nn.Identity()
    kinds = {Mel: BatchMel, MFCC: BatchMFCC, Chroma: BatchChroma}
    if type(features) not in kinds:
        raise InputError(
            f"features={features.name}: {type(features).__name__} has no counterpart that computes "
            "whole batches; set features.on_device=false"
        )
    return kinds[type(features)](features)
