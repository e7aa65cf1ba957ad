import librosa
import numpy as np
import pytest

from genreclf.audio import filterbank


@pytest.fixture
def clip() -> np.ndarray:
    return np.random.default_rng(0).normal(size=20_000).astype(np.float32)


@pytest.mark.parametrize(
    ("n_fft", "hop_length", "n_mels"),
    [(2048, 512, 128), (1024, 1000, 40), (512, 100, 17), (400, 160, 1)],
)
def test_mel_power_is_librosas(clip: np.ndarray, n_fft: int, hop_length: int, n_mels: int) -> None:
    power = filterbank.apply_filters(
        clip, filterbank.build_mel_filters(16_000, n_fft, n_mels), n_fft, hop_length
    )
    expected = librosa.feature.melspectrogram(
        y=clip, sr=16_000, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels
    )
    np.testing.assert_allclose(power, expected, rtol=1e-5, atol=1e-7)


def test_chroma_power_is_librosas(clip: np.ndarray) -> None:
    power = filterbank.apply_filters(
        clip, filterbank.build_chroma_filters(16_000, 2048, 12), 2048, 512
    )
    spectrum = np.abs(librosa.stft(clip, n_fft=2048, hop_length=512)) ** 2
    filters = librosa.filters.chroma(sr=16_000, n_fft=2048, n_chroma=12)
    np.testing.assert_allclose(power, filters @ spectrum, rtol=1e-5, atol=1e-7)


def test_a_group_of_filters_that_lets_nothing_through_gives_zeros(clip: np.ndarray) -> None:
    filters = np.zeros((40, 129))
    filters[20, 64] = 1
    power = filterbank.apply_filters(clip, filterbank.group_filters(filters), 256, 128)
    assert (power[:20] == 0).all()
    assert (power[20] > 0).all()


def test_an_odd_window_has_all_its_frequencies(clip: np.ndarray) -> None:
    filters = np.random.default_rng(1).random((3, 151))
    power = filterbank.apply_filters(clip, filterbank.group_filters(filters), 301, 128)
    expected = filters @ np.abs(librosa.stft(clip, n_fft=301, hop_length=128)) ** 2
    np.testing.assert_allclose(power, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "n_mels"),
    [(22050, 2048, 128), (44100, 2048, 128), (8000, 301, 30), (1500, 512, 17)],
)
def test_mel_filters_are_librosas_to_the_last_bit(
    sample_rate: int, n_fft: int, n_mels: int
) -> None:
    filters = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels)
    expected = filterbank.group_filters(filters)
    bank = filterbank.build_mel_filters(sample_rate, n_fft, n_mels)
    for (*place, weights), (*expected_place, expected_weights) in zip(
        bank.groups, expected.groups, strict=True
    ):
        assert place == expected_place
        np.testing.assert_array_equal(weights, expected_weights)
