"""musicnn's tags as a model: `genreclf.load("tags")`."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import nonmusic
import numpy as np
import pytest
import torch
from test_musicnn import TENSORFLOW, make_network

import genreclf
from genreclf.audio.decode import read_audio, resample
from genreclf.errors import InputError
from genreclf.evaluation.two_inputs import TwoInputs
from genreclf.models import MusicnnEmbedding, compute_tags
from genreclf.models.encoders.musicnn_inference import MusicnnInference
from genreclf.models.encoders.musicnn_patches import MusicnnPatches
from genreclf.models.encoders.musicnn_tagger import NO_GENRES, MusicnnTagger, embed_in_threads
from genreclf.models.encoders.musicnn_weights import TAGS

RATE = 16_000


@pytest.fixture
def model(musicnn_weights: Path) -> genreclf.Model:
    return genreclf.load("tags", "cpu")


def make_noise(seconds: float, rate: int = RATE) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(-0.5, 0.5, int(seconds * rate)).astype(np.float32)


def test_the_default_is_tags_and_its_names_are_documented(model: genreclf.Model) -> None:
    assert genreclf.load(device="cpu").vocabulary == model.vocabulary
    assert len(model.classes) == 31
    assert {*model.vocabulary.tags} == {*NO_GENRES} == {*TAGS} - {*model.classes}
    assert model.vocabulary.name.startswith("musicnn's 50 tags: genres, moods")
    assert genreclf.load("fma8", "cpu").vocabulary.name == "FMA's 8 genres"
    assert genreclf.load("pretrained", "cpu").vocabulary.name == "FMA's 8 genres"


@pytest.mark.parametrize("path", TENSORFLOW)
def test_predictions_are_the_tags_of_the_graph(
    model: genreclf.Model, real_music: Path, path: str
) -> None:
    """Frozen scores of the authors' graph; resampling in two steps changes them by below .003."""
    found = model.predict(real_music / path)
    both = {**found.scores, **found.tags}
    for tag, score in TENSORFLOW[path].items():
        assert both[tag] == pytest.approx(score, abs=0.003)
    genres = [tag for tag in TENSORFLOW[path] if tag in found.scores]
    assert found.genre == genres[0]
    assert [*found.scores.values()] == sorted(found.scores.values(), reverse=True)
    assert [*found.tags.values()] == sorted(found.tags.values(), reverse=True)


def test_a_waveform_and_a_file_have_the_same_tags_as_compute_tags(
    model: genreclf.Model, real_music: Path
) -> None:
    path = next(real_music.glob("rock/*.mp3"))
    waveform, rate = read_audio(path, RATE, 30.0)
    expected = compute_tags(waveform)
    for found in (model.predict(path), model.predict((waveform, rate), threshold=1)):
        both = {**found.scores, **found.tags}
        assert max(abs(both[tag] - score) for tag, score in expected.items()) < 0.01
    embedded = MusicnnEmbedding()(waveform, rate)[:, 0]
    np.testing.assert_allclose(model.embed(path), embedded, atol=1e-4)


def test_noise_is_unknown_and_music_is_not(model: genreclf.Model, fma_clip: Path) -> None:
    noise = nonmusic.make_noise(0)[: 10 * nonmusic.RATE].astype(np.float32)
    found = model.predict((noise, nonmusic.RATE))
    assert (found.genre, found.is_unknown) == ("unknown", True)
    known = model.predict(fma_clip)
    assert known.genre == "Hip-Hop"
    bundled = genreclf.load("fma8", "cpu").predict(fma_clip)
    assert known.novelty == pytest.approx(bundled.novelty, abs=1e-6)  # one rating for both


def test_short_clips_and_silence_have_tags(model: genreclf.Model) -> None:
    sound = make_noise(6)
    short = model.predict((sound, RATE), threshold=1)
    padded = model.predict((np.concatenate([sound, 0 * make_noise(24)]), RATE), threshold=1)
    assert all(0 <= score <= 1 for score in short.scores.values())
    for genre, score in padded.scores.items():  # patches of silence do not count
        assert score == pytest.approx(short.scores[genre], abs=0.01)


def test_maps_give_shares_and_keep_other_tags(model: genreclf.Model, fma_clip: Path) -> None:
    given = {"Rap": ["Hip-Hop", "rnb"], "Old": ["oldies", "60s"], "Rest": "rock"}
    found = genreclf.load("tags", "cpu", genre_map=given).predict(fma_clip)
    plain = model.predict(fma_clip)
    assert found.genre == "Rap"
    assert sum(found.scores.values()) == pytest.approx(1)
    assert "oldies" not in found.tags
    assert found.tags["90s"] == plain.tags["90s"]
    assert found.vocabulary == "3 genres of your map, from musicnn's 50 tags"


def test_the_input_is_filled_up_with_patches_of_zeros() -> None:
    features = MusicnnPatches()
    assert features.shape == (96, 1870)
    whole, short = features(make_noise(30), RATE), features(make_noise(10), RATE)
    assert (whole > 0).any(axis=0).all()
    assert (short[:, : 3 * 187] > 0).any(axis=0).all()
    assert not short[:, 3 * 187 :].any()
    np.testing.assert_array_equal(short[:, :187], whole[:, :187])


def test_probabilities_are_averaged_over_audible_patches() -> None:
    net = make_network()
    tagger = MusicnnTagger(net).eval()
    clips = torch.rand(3, 96, 3 * 187)
    clips[1, :, 187:] = 0
    clips[2] = 0
    with torch.inference_mode():
        logits, units = tagger(clips, embedded=True)
        alone = [
            net(part).sigmoid() for part in clips[0].split(187, dim=1) for part in [part[None]]
        ]
        torch.testing.assert_close(
            logits[0].sigmoid(), torch.cat(alone).mean(dim=0), rtol=1e-3, atol=1e-4
        )
        torch.testing.assert_close(logits[1], net(clips[1:2, :, :187])[0], rtol=1e-3, atol=1e-3)
        assert logits.isfinite().all()
        assert units.shape == (3, 200)


def test_threads_do_not_change_the_result() -> None:
    net, patches = MusicnnInference(make_network()), torch.rand(5, 96, 187)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.inference_mode():
            expected = embed_in_threads(net, patches)
        torch.set_num_threads(3)
        with torch.inference_mode():
            found = embed_in_threads(net, patches)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected)


def test_both_inputs_get_the_samples_that_each_gets_alone() -> None:
    """Of a length that is no whole number of samples at the other rate."""
    waveform = make_noise(7.123, 48_000)
    features = SimpleNamespace(name="size", sample_rate=22_050, duration=30.0, shape=(1, 1))

    class Size(SimpleNamespace):
        def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
            return np.array([[len(waveform)]], np.float32)

    size = Size(**vars(features), padded=False)
    found = TwoInputs(size, size)(waveform, 48_000)
    assert found.tolist() == [[len(resample(waveform, 48_000, 22_050)[0])] * 2]


def test_a_failure_leaves_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch would compute on one core for good, in threads that begin later."""

    def fail(_: torch.Tensor) -> torch.Tensor:
        raise ValueError("out of memory")

    net = MusicnnInference(make_network())
    monkeypatch.setattr(net, "pool", fail)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(ValueError, match="out of memory"):
            embed_in_threads(net, torch.rand(5, 96, 187))
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


def test_missing_weights_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENRECLF_CACHE", str(tmp_path))
    with pytest.raises(InputError) as caught:
        genreclf.load("tags")
    assert str(caught.value) == (
        "checkpoint=tags needs the weights of musicnn: type genreclf download model=musicnn, or "
        "choose checkpoint=fma8, the model that comes with genreclf"
    )


def test_processes_that_decode_do_without_pytorch() -> None:
    code = (
        "import sys, genreclf.audio.workers, genreclf.evaluation.two_inputs\n"
        "import genreclf.models.encoders.musicnn_patches\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
