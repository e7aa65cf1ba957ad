"""Features of a batch of waveforms, on its device: (batch, 1, samples) -> (batch, bins, frames).

torchaudio's counterpart of `features`, for training on stored waveforms. It agrees with librosa to
`TOLERANCE`, which is tested.
"""

import torch
from torch import Tensor, nn
from torchaudio import transforms
from torchaudio.functional import create_dct

from genreclf.audio.features import MFCC, Chroma, Features, Mel

AMIN = 1e-10  # power that librosa takes for the least
TOLERANCE = {"mel": 0.01, "mfcc": 0.01, "chroma": 1e-4}  # greatest difference, in units of each


class BatchMel(nn.Module):
    """`features.Mel` of a batch."""

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

    def forward(self, waveforms: Tensor) -> Tensor:
        """In dB relative to each clip's loudest bin, in [-top_db, 0]."""
        level = 10 * self.power(waveforms.squeeze(1)).clamp(min=AMIN).log10()
        level = level - level.amax(dim=(1, 2), keepdim=True)
        return level.clamp(min=-self.top_db)


class BatchMFCC(nn.Module):
    """`features.MFCC` of a batch."""

    def __init__(self, mfcc: MFCC) -> None:
        super().__init__()
        self.mel = BatchMel(mfcc)
        dct = create_dct(mfcc.n_mfcc, mfcc.n_mels, norm="ortho")  # (n_mels, n_mfcc)
        self.register_buffer("dct", dct.T.contiguous(), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Coefficients, lowest first."""
        return self.get_buffer("dct") @ self.mel(waveforms)


class BatchChroma(nn.Module):
    """`features.Chroma` of a batch."""

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
        """Energies, the strongest of each frame 1; zeros where a frame is silent."""
        energy = self.get_buffer("filters") @ self.power(waveforms.squeeze(1))
        strongest = energy.amax(dim=1, keepdim=True)
        tiny = torch.finfo(energy.dtype).tiny
        return torch.where(strongest < tiny, energy, energy / strongest.clamp(min=tiny))


def build_batch_features(features: Features) -> nn.Module:
    """What makes these features of what a store holds for them: nothing, unless `on_device`."""
    if not getattr(features, "on_device", False):
        return nn.Identity()
    kinds = {Mel: BatchMel, MFCC: BatchMFCC, Chroma: BatchChroma}
    return kinds[type(features)](features)
