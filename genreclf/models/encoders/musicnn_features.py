"""Features from musicnn with its published weights, and its tags."""

import dataclasses
from typing import ClassVar

import numpy as np

from genreclf.audio import filterbank
from genreclf.audio.settings import check_settings
from genreclf.models.encoders.musicnn_weights import (
    DIGEST,
    TAGS,
    UNITS,
    check_weights,
    load_network,
)
from genreclf.models.encoders.windowed import cut_patches

SAMPLE_RATE = 16_000  # Hz
N_FFT, HOP_LENGTH, BANDS = 512, 256, 96
PATCH = 187  # frames, 3 s: the network was trained on such patches
SHORTEST = (PATCH - 1) * HOP_LENGTH  # samples of one patch


@dataclasses.dataclass(frozen=True)
class MusicnnEmbedding:
    """The 200 values before musicnn's tags, averaged over patches of 3 s.

    Silence at the end, which fills up short clips, is left out. A clip shorter than a patch is
    repeated, as in the training of the network.
    """

    duration: float = 30.0  # s; longer clips are cut

    name: ClassVar[str] = "musicnn"
    sample_rate: ClassVar[int] = SAMPLE_RATE
    version: ClassVar[str] = f"1 {DIGEST[:12]}"
    unit: ClassVar[str] = "activation"
    bin_axis: ClassVar[str] = "unit"

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def shape(self) -> tuple[int, int]:
        """(values, 1) of every clip."""
        return UNITS, 1

    def check_available(self) -> None:
        """Check that the weights are there.

        Raises:
            InputError: they are not; the message says what to type.
        """
        check_weights(f"features={self.name}")

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (values, 1) of a waveform (samples,) at 16 kHz."""
        audible = np.flatnonzero(waveform)
        if len(audible):
            waveform = waveform[: audible[-1] + 1]
        return compute_units(cut_patches(compute_mel(waveform), PATCH)).mean(axis=0)[:, None]


@dataclasses.dataclass(frozen=True)
class MusicnnFrames(MusicnnEmbedding):
    """The 200 values before musicnn's tags over time: a frame for each patch of 3 s."""

    name: ClassVar[str] = "musicnn_frames"

    @property
    def shape(self) -> tuple[int, int]:
        """(values, patches) of every clip."""
        samples = max(int(self.duration * SAMPLE_RATE), SHORTEST)
        return UNITS, (1 + samples // HOP_LENGTH) // PATCH

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (values, patches) of a waveform (samples,) at 16 kHz."""
        return compute_units(cut_patches(compute_mel(waveform), PATCH)[: self.shape[1]]).T


@dataclasses.dataclass(frozen=True)
class MusicnnMel:
    """musicnn's input, to train the network on: log10(10000 x + 1) of the mel power x.

    A clip shorter than a patch of 3 s is repeated.
    """

    duration: float = 30.0  # s; longer clips are cut, shorter ones end in silence

    name: ClassVar[str] = "musicnn_mel"
    sample_rate: ClassVar[int] = SAMPLE_RATE
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "log10 of power"
    bin_axis: ClassVar[str] = "frequency"
    silence: ClassVar[tuple[float, ...]] = (0.0,)

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def shape(self) -> tuple[int, int]:
        """(bands, frames) of every clip."""
        return BANDS, 1 + max(int(self.duration * SAMPLE_RATE), SHORTEST) // HOP_LENGTH

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (bands, frames) of a waveform (samples,) at 16 kHz."""
        return compute_mel(waveform)


def compute_tags(waveform: np.ndarray) -> dict[str, float]:
    """Compute the probability of each of musicnn's 50 tags, averaged over patches of 3 s.

    Args:
        waveform: float32 (samples,) at 16 kHz.

    Raises:
        InputError: the weights are missing or damaged.
    """
    import torch

    units = compute_units(cut_patches(compute_mel(waveform), PATCH))
    with torch.inference_mode():
        scores = load_network().tags(torch.from_numpy(units)).sigmoid().mean(dim=0)
    return dict(zip(TAGS, scores.tolist(), strict=True))


def compute_mel(waveform: np.ndarray) -> np.ndarray:
    """Compute the network's input, log10(10000 x + 1) of the mel power x: float32 (96, frames).

    The authors' code rounds x to 16 bits, so that loud frames become infinite; this does not. A
    waveform shorter than a patch is repeated.

    Args:
        waveform: float32 (samples,) at 16 kHz.
    """
    if len(waveform) < SHORTEST:
        waveform = np.resize(waveform, SHORTEST)
    filters = filterbank.build_mel_filters(SAMPLE_RATE, N_FFT, BANDS)
    return filterbank.compress_power(waveform, filters, N_FFT, HOP_LENGTH)


def compute_units(patches: np.ndarray) -> np.ndarray:
    """Compute the values before the tags, float32 (patches, 200), on one core.

    The processes that compute features already use every core.

    Raises:
        InputError: the weights are missing or damaged.
    """
    import torch

    net = load_network()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return net.embed(net.pool(torch.from_numpy(patches))).numpy()
    finally:
        torch.set_num_threads(threads)
