import importlib
import inspect
import pkgutil
from collections import Counter

import pytest

from genreclf.audio.descriptions import (
    build_features,
    describe_features,
    identify_features,
    locate_features,
)
from genreclf.audio.features import MFCC, Chroma, Mel, MelFrames, Precomputed, Waveform
from genreclf.errors import InputError
from genreclf.models import MusicnnMel, MusicnnPatches
from genreclf.trust import OURS


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


def test_different_features_have_different_names() -> None:
    """Such as musicnn's input for training and that for prediction, which have other shapes."""
    names = Counter(
        kind.name
        for package in map(importlib.import_module, OURS)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        for kind in vars(importlib.import_module(module.name)).values()
        if inspect.isclass(kind) and kind.__module__ == module.name
        if isinstance(vars(kind).get("name"), str)
    )
    assert names["musicnn_mel"] == names["musicnn_patches"] == 1
    assert [name for name, count in names.items() if count > 1] == []
    both = MusicnnMel(), MusicnnPatches()
    assert describe_features(both[0]) != describe_features(both[1])
    assert identify_features(both[0]) != identify_features(both[1])
    assert [build_features(describe_features(each)) for each in both] == [*both]


def test_a_class_that_is_not_exported_is_not_named_as_one_that_is() -> None:
    hidden = type("MusicnnMel", (MusicnnPatches,), {"__module__": MusicnnPatches.__module__})
    names = (describe_features(each)["_target_"] for each in (hidden(), MusicnnMel()))
    hidden_name, exported = names
    assert exported == "genreclf.models.MusicnnMel"
    assert hidden_name == "genreclf.models.encoders.musicnn_patches.MusicnnMel"
