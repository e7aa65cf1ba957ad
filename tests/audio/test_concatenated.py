"""features=concat: several kinds of features of each clip."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genreclf
from genreclf.audio import Chroma, ConcatenatedFeatures, Mel, MelFrames
from genreclf.audio.concatenated import compute_statistics
from genreclf.audio.decode import read_audio
from genreclf.audio.descriptions import build_features, describe_features, identify_features
from genreclf.audio.own_features import compute_features
from genreclf.audio.workers import extract
from genreclf.data.seen_tracks import AUDIO, SOME_AUDIO, SeenTracks
from genreclf.errors import InputError
from genreclf.models import ModelEmbedding, heads

EMBEDDING = ModelEmbedding(duration=2.5)
FRAMES = MelFrames(duration=2.5, sample_rate=16_000, n_fft=512, n_mels=16, frames=8)


def test_each_part_has_the_values_that_it_has_alone(music: Path) -> None:
    """A file at 22,050 Hz is decoded once, and resampled for each part as if it were alone."""
    path = str(next(music.rglob("*.mp3")))
    features = ConcatenatedFeatures([EMBEDDING, FRAMES], duration=2.5)
    assert (features.shape, features.sample_rate) == ((608 + 3 * 16, 1), None)
    values, seconds, _ = extract(path, features)
    assert seconds == 2.5
    alone = [extract(path, part) for part in (EMBEDDING, FRAMES)]
    np.testing.assert_array_equal(values[:608], alone[0][0])
    np.testing.assert_array_equal(values[608:], compute_statistics(np.asarray(alone[1][0])))


def test_the_same_number_of_frames_is_kept(music: Path) -> None:
    parts = Mel(duration=2.5, n_mels=16), Chroma(duration=2.5)
    features = ConcatenatedFeatures(parts, duration=2.5)
    assert (features.shape, features.sample_rate, features.unit) == ((28, 108), 22_050, "several")
    assert features.silence == (-80.0,) * 16 + (0.0,) * 12
    waveform, rate = read_audio(next(music.rglob("*.mp3")), 22_050, 2.5)
    expected = [compute_features(part, waveform, rate) for part in parts]
    found = compute_features(features, waveform, rate)
    np.testing.assert_array_equal(found, np.concatenate(expected))


def test_a_short_clip_is_padded_as_each_part_does() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 44_100).astype(np.float32)
    features = ConcatenatedFeatures([Mel(duration=5.0), EMBEDDING], duration=5.0)
    assert compute_features(features, noise, 22_050).shape == (3 * 128 + 608, 1)


def test_statistics_are_those_of_the_heads() -> None:
    values = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    expected = heads.compute_statistics(torch.from_numpy(values)[None])[0].numpy()
    np.testing.assert_allclose(compute_statistics(values)[:, 0], expected, rtol=1e-5)


def test_what_the_parts_compute_identifies_them(tmp_path: Path) -> None:
    first = ConcatenatedFeatures([EMBEDDING, FRAMES])
    assert first == ConcatenatedFeatures([ModelEmbedding(duration=2.5), FRAMES])
    assert hash(first) == hash(ConcatenatedFeatures([EMBEDDING, FRAMES]))
    others = [FRAMES, EMBEDDING], [EMBEDDING], [EMBEDDING, MelFrames(duration=2.5)]
    for other in others:
        assert identify_features(ConcatenatedFeatures(other)) != identify_features(first)
    assert "pretrained" not in str(identify_features(first))


def test_they_are_built_again_from_their_description() -> None:
    features = ConcatenatedFeatures([EMBEDDING, FRAMES], duration=2.5)
    again = build_features(describe_features(features))
    assert again == features
    assert [*again.built] == [EMBEDDING, FRAMES]
    assert pickle.loads(pickle.dumps(features)).built == features.built


def test_a_description_cannot_name_code_that_is_not_trusted() -> None:
    stored = describe_features(ConcatenatedFeatures([FRAMES]))
    stored["parts"][0]["_target_"] = "mypackage.Evil"
    with pytest.raises(InputError, match=r"mypackage\.Evil is not part of genreclf"):
        build_features(stored)


def test_what_models_have_seen_is_merged() -> None:
    assert not hasattr(ConcatenatedFeatures([FRAMES]), "trained_on")
    assert ConcatenatedFeatures([EMBEDDING, FRAMES]).trained_on == EMBEDDING.trained_on
    one, two = ({AUDIO: frozenset(each), "float32": frozenset(each)} for each in ("ab", "bc"))
    both = SeenTracks(one).merge(SeenTracks(two))
    assert both.digests == {AUDIO: frozenset("abc"), "float32": frozenset("abc")}
    assert SOME_AUDIO in SeenTracks({"float16": frozenset("a")}).merge(both).digests
    assert SeenTracks({}).merge(both).digests == {}


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ([], "features.parts: the features to concatenate are needed, such as"),
        ([FRAMES, FRAMES], "features.parts: mel_frames is there twice"),
        (["mel"], "features.parts: 'mel' is no object of a class of features"),
        ([MelFrames(duration=60.0)], r"mel_frames takes 60 s; set features\.duration=60"),
        ([Mel(on_device=True)], "features.parts: mel has on_device=true"),
        ([{"name": "precomputed"}], "features.parts: precomputed cannot be computed from audio"),
        ([{"name": "x"}], "are not known to this version"),
    ],
)
def test_impossible_parts_are_refused(parts: list[Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        ConcatenatedFeatures(parts)


@pytest.mark.slow
def test_a_classifier_on_them_predicts(
    command: Callable[..., str], train: Callable[..., dict[str, Any]], music: Path, tmp_path: Path
) -> None:
    """Names and settings are accepted; the checkpoint and its export know how to compute them."""
    parts = "features.parts=[embedding,{name: mel_frames, frames: 16}]"
    settings = "features=concat", parts, "model=linear", "test=false"
    result = train(*settings, "report=true")
    model = genreclf.load(result["folder"], device="cpu")
    assert [part.duration for part in model.features.built] == [2.5, 2.5]
    path = next(music.rglob("*.mp3"))
    scores = model.predict(path).scores
    command("export", f"checkpoint={result['folder']}", f"folder={tmp_path}/exported")
    exported = genreclf.load(tmp_path / "exported", device="cpu")
    assert exported.predict(path).genre == next(iter(scores))
    assert train(*settings)["folder"] == result["folder"]


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ("mel", "features.parts=mel: a list is needed: [mel]"),
        ("[mell]", "there is no option features=mell; there are chroma, embedding, huggingface"),
        ("[[mel]]", "a list of texts or of groups of settings is needed"),
        ("[{name: mel, n_mel: 3}]", "features=mel has no setting n_mel; did you mean n_mels?"),
        ("[{name: mel, n_mels: 0}]", "features.n_mels=0: set a number above 0"),
        ("[{n_mels: 3}]", "features.parts: {'n_mels': 3} does not say which features; add the"),
        ("[]", "features.parts: the features to concatenate are needed"),
    ],
)
def test_wrong_parts_are_one_line(
    train: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    parts: str,
    line: str,
) -> None:
    with pytest.raises(SystemExit):
        train("features=concat", f"features.parts={parts}", "model=linear")
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert line in error[0]
    assert "provider=" not in error[0]
