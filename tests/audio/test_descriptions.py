import pytest

from genreclf.audio.descriptions import build_features, describe_features, locate_features
from genreclf.audio.features import MFCC, Chroma, Mel, MelFrames, Precomputed, Waveform
from genreclf.errors import InputError


def test_settings_come_back() -> None:
    kinds = (Mel(n_mels=64, duration=6.0), MFCC(n_mfcc=20), Chroma(), Waveform(), MelFrames())
    for features in (*kinds, Precomputed()):
        assert build_features(describe_features(features)) == features


def test_checkpoints_without_a_sample_rate_get_the_default_b1() -> None:
    """B1: what was stored before mel_frames had a sample rate was computed at 44.1 kHz, mostly."""
    stored = describe_features(MelFrames(frames=64))
    assert stored.pop("sample_rate") == 44100
    assert build_features(stored) == MelFrames(frames=64)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(InputError, match="not known"):
        build_features({"name": "wavelet"})
    with pytest.raises(InputError, match="not known"):
        build_features({"name": "mel", "wings": 2})


def test_built_in_features_are_located_by_name() -> None:
    assert locate_features(describe_features(Mel(n_mels=8)))["_target_"] == "genreclf.audio.Mel"
    with pytest.raises(InputError, match="not known to this version"):
        locate_features({"name": "wavelet"})
