import librosa
import numpy as np
import pytest

from genreclf.errors import InputError
from genreclf.features import Mel, Precomputed, from_settings, settings


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    """5 s of a rising tone with a little noise."""
    time = np.arange(5 * 22050) / 22050
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(time))
    return (0.5 * np.sin(2 * np.pi * (200 + 300 * time) * time) + noise).astype(np.float32)


def test_the_papers_setting_is_128_by_1292(waveform: np.ndarray) -> None:
    mel = Mel()
    features = mel(waveform)
    assert features.shape == mel.shape == (128, 1292)
    assert features.dtype == np.float32
    assert features.max() == 0
    assert features.min() == mel.silence == -80


def test_equals_librosa(waveform: np.ndarray) -> None:
    clip = np.zeros(22050 * 30, np.float32)
    clip[: len(waveform)] = waveform
    power = librosa.feature.melspectrogram(y=clip, sr=22050, n_fft=2048, hop_length=512, n_mels=128)
    expected = librosa.power_to_db(power, ref=np.max)
    np.testing.assert_allclose(Mel()(waveform), expected, atol=1e-4)


def test_values_are_frozen(waveform: np.ndarray) -> None:
    """Regression: recorded with librosa 0.11; dB."""
    features = Mel(duration=5, n_mels=16)(waveform)
    assert features.shape == (16, 216)
    frozen = [-46.267, -48.951, -48.604, -3.817, -6.597, -47.794]
    np.testing.assert_allclose(features[3:9, 100], frozen, atol=0.01)


def test_longer_clips_are_cut(waveform: np.ndarray) -> None:
    mel = Mel(duration=2)
    np.testing.assert_array_equal(mel(waveform), mel(waveform[: 2 * 22050]))


def test_settings_come_back() -> None:
    for features in (Mel(n_mels=64, duration=6.0), Precomputed()):
        assert from_settings(settings(features)) == features


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(InputError, match="not known"):
        from_settings({"name": "wavelet"})
    with pytest.raises(InputError, match="not known"):
        from_settings({"name": "mel", "wings": 2})


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"features\.hop_length=0"):
        Mel(hop_length=0)
