from pathlib import Path
from types import SimpleNamespace

import librosa
import numpy as np
import pytest
import torch

from genreclf.audio import decode
from genreclf.audio.features import MFCC, Chroma, Mel, MelFrames, Waveform
from genreclf.audio.on_device import TOLERANCE, build_batch_features
from genreclf.audio.own_features import compute_features, is_padded
from genreclf.errors import InputError

RATE = 22050


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    """5 s of a rising tone with a little noise."""
    time = np.arange(5 * 22050) / 22050
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(time))
    return (0.5 * np.sin(2 * np.pi * (200 + 300 * time) * time) + noise).astype(np.float32)


def test_the_papers_setting_is_128_by_1292(waveform: np.ndarray) -> None:
    mel = Mel()
    features = mel(waveform, RATE)
    assert features.shape == mel.shape == (128, 1292)
    assert features.dtype == np.float32
    assert features.max() == 0
    assert features.min() == -80
    assert mel.silence == (-80,)


def test_equals_librosa(waveform: np.ndarray) -> None:
    clip = np.zeros(22050 * 30, np.float32)
    clip[: len(waveform)] = waveform
    power = librosa.feature.melspectrogram(y=clip, sr=22050, n_fft=2048, hop_length=512, n_mels=128)
    expected = librosa.power_to_db(power, ref=np.max)
    np.testing.assert_allclose(Mel()(waveform, RATE), expected, atol=1e-3)


def test_values_are_frozen(waveform: np.ndarray) -> None:
    """Regression: recorded with librosa 0.11; dB."""
    features = Mel(duration=5, n_mels=16)(waveform, RATE)
    assert features.shape == (16, 216)
    frozen = [-46.267, -48.951, -48.604, -3.817, -6.597, -47.794]
    np.testing.assert_allclose(features[3:9, 100], frozen, atol=0.01)


def test_longer_clips_are_cut(waveform: np.ndarray) -> None:
    mel = Mel(duration=2)
    np.testing.assert_array_equal(mel(waveform, RATE), mel(waveform[: 2 * RATE], RATE))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"features\.hop_length=0"):
        Mel(hop_length=0)
    with pytest.raises(InputError, match=r"features\.frames=0"):
        MelFrames(frames=0)
    with pytest.raises(InputError, match=r"features\.n_mfcc=200: at most n_mels=128"):
        MFCC(n_mfcc=200)


def test_mfcc_is_librosas_but_for_a_constant_of_the_first(waveform: np.ndarray) -> None:
    mfcc = MFCC(duration=5)
    coefficients = mfcc(waveform, RATE)
    assert coefficients.shape == mfcc.shape == (13, 216)
    expected = librosa.feature.mfcc(y=waveform, sr=RATE, n_mfcc=13)
    np.testing.assert_allclose(coefficients[1:], expected[1:], atol=1e-3)
    assert np.ptp(coefficients[0] - expected[0]) < 1e-3


def test_chroma_is_librosas_without_tuning(waveform: np.ndarray) -> None:
    chroma = Chroma(duration=5)
    energies = chroma(waveform, RATE)
    assert energies.shape == chroma.shape == (12, 216)
    expected = librosa.feature.chroma_stft(y=waveform, sr=RATE, tuning=0.0)
    np.testing.assert_allclose(energies, expected, atol=1e-5)
    assert (energies.max(axis=0) == 1).all()


@pytest.mark.parametrize("features", [Mel(), MFCC(), Chroma()], ids=["mel", "mfcc", "chroma"])
def test_silence_is_what_a_silent_frame_has(waveform: np.ndarray, features: Mel) -> None:
    frame = features(waveform, RATE)[:, -10]  # the clip fills 5 of 30 s
    np.testing.assert_allclose(frame, np.broadcast_to(features.silence, len(frame)), atol=2e-3)


def test_the_waveform_is_kept_as_it_is(waveform: np.ndarray) -> None:
    stored = Waveform(duration=6.0)
    row = stored(waveform, RATE)
    assert row.shape == stored.shape == (1, 6 * RATE)
    np.testing.assert_array_equal(row[0, : 5 * RATE], waveform)
    assert not row[0, 5 * RATE :].any()


def test_another_sample_rate_is_a_defect(waveform: np.ndarray) -> None:
    with pytest.raises(ValueError, match="44100 Hz; 22050 Hz needed"):
        Mel()(waveform, 44100)
    with pytest.raises(ValueError, match="22050 Hz; 44100 Hz needed"):
        MelFrames()(waveform, 22050)


def test_short_clips_of_mel_frames_are_not_padded_b1(waveform: np.ndarray) -> None:
    """B1: a fixed sample rate does not fix the length; other classes choose by `padded`."""
    features = MelFrames(RATE, frames=10)
    expected = features(waveform, RATE)
    np.testing.assert_array_equal(compute_features(features, waveform, RATE), expected)
    assert not is_padded(features)
    assert is_padded(Mel())
    assert not is_padded(SimpleNamespace(sample_rate=None))
    assert is_padded(SimpleNamespace(sample_rate=None, padded=True))


def test_frames_are_picked_evenly(waveform: np.ndarray) -> None:
    features = MelFrames(16000, frames=10, n_mels=16)
    power = librosa.feature.melspectrogram(y=waveform, sr=16000, n_mels=16)
    level = librosa.power_to_db(power, ref=np.max)
    picked = [int((k + 0.5) * level.shape[1] / 10) for k in range(10)]
    np.testing.assert_allclose(features(waveform, 16000), level[:, picked], atol=1e-4)


def test_mel_frames_are_the_rows_of_the_shared_archive(fma_clip: Path, fma_rows: Path) -> None:
    """Within 2 of 255."""
    with np.load(fma_rows) as rows:
        row = rows["features"][np.flatnonzero(rows["track_ids"] == 2)[0]]
    row_db = MelFrames()(*decode.read_audio(fma_clip, 44100, 30.0))
    assert np.abs((row_db + 80) * 255 / 80 - row).max() < 2


@pytest.mark.parametrize("kind", [Mel, MFCC, Chroma])
def test_a_batch_on_the_device_agrees_with_librosa(kind: type[Mel], waveform: np.ndarray) -> None:
    features = kind(duration=5.0, on_device=True)
    clips = [waveform, 0.01 * waveform[::-1].copy(), waveform[: 3 * RATE]]
    stored = np.stack([features.stored(clip, RATE) for clip in clips])
    batch = build_batch_features(features)(torch.from_numpy(stored)).numpy()
    expected = np.stack([features(clip, RATE) for clip in clips])
    np.testing.assert_allclose(batch, expected, atol=TOLERANCE[features.name], rtol=0)


@pytest.mark.parametrize("kind", [Mel, MFCC, Chroma])
def test_a_batch_of_real_clips_agrees_with_librosa(kind: type[Mel], real_music: Path) -> None:
    features = kind(duration=10.0, on_device=True)
    for clip in sorted(real_music.glob("*/*.mp3"))[::60]:
        waveform, rate = decode.read_audio(clip, RATE, 10.0)
        stored = torch.from_numpy(features.stored(waveform, rate))
        batch = build_batch_features(features)(stored[None]).numpy()[0]
        expected = features(waveform, rate)
        np.testing.assert_allclose(batch, expected, atol=TOLERANCE[features.name], rtol=0)
