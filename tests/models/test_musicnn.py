"""musicnn: the network, its faster form, its features, and what the published weights give."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from genreclf.audio.decode import read_audio
from genreclf.audio.descriptions import build_features, describe_features, identify_features
from genreclf.audio.own_features import compute_features
from genreclf.data.build_store import plan_store
from genreclf.data.datasets import Synthetic
from genreclf.errors import InputError
from genreclf.models import Musicnn, MusicnnEmbedding, MusicnnFrames, compute_tags, count_parameters
from genreclf.models.encoders import musicnn_features
from genreclf.models.encoders.musicnn import divide_padding
from genreclf.models.encoders.musicnn_features import PATCH, compute_mel
from genreclf.models.encoders.musicnn_inference import MusicnnInference
from genreclf.models.encoders.musicnn_weights import TAGS
from genreclf.models.encoders.windowed import cut_patches
from genreclf.models.layers import initialise_lazy

# The best tags of clips of Emotify and of `make_music`, from the authors' graph in TensorFlow 2.19,
# fed with librosa's spectrograms of what `read_audio` decodes.
TENSORFLOW = {
    "classical/002.mp3": {"ambient": 0.22549, "jazz": 0.22264, "instrumental": 0.22076},
    "electronic/001.mp3": {"electronic": 0.48352, "dance": 0.21645, "House": 0.19933},
    "pop/001.mp3": {"folk": 0.30177, "acoustic": 0.25554, "indie": 0.20377},
    "rock/001.mp3": {"rock": 0.47303, "pop": 0.15163, "alternative": 0.146},
    "rock/003.mp3": {"female vocalists": 0.28259, "pop": 0.21685, "rock": 0.21526},
}


def make_network(classes: int = 50, bins: int = 96) -> Musicnn:
    """A network with random weights; half of the batch norms' slopes are negative."""
    torch.manual_seed(0)
    net = Musicnn(classes)
    initialise_lazy(net, (bins, 40))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)  # pyright: ignore
            nn.init.uniform_(module.running_var, 0.5, 2)  # pyright: ignore
    return net.eval()


def make_music() -> np.ndarray:
    """Six seconds of two tones that swell and tick, at 16 kHz."""
    time = np.arange(96_000) / 16_000
    swell = 0.15 * np.sin(2 * np.pi * 220 * time) * (1 + np.sin(4 * np.pi * time))
    tick = 0.1 * np.sin(2 * np.pi * 3000 * time) * (time % 0.5 < 0.05)
    return (swell + tick).astype(np.float32)


@pytest.fixture
def random_weights(monkeypatch: pytest.MonkeyPatch) -> MusicnnInference:
    """Stands in for the published weights."""
    net = MusicnnInference(make_network())
    monkeypatch.setattr(musicnn_features, "load_network", lambda: net)
    return net


def test_the_sizes_are_the_papers() -> None:
    net = make_network()
    assert count_parameters(net) == 787_159
    assert (net.channels, net.pooled, net.embedding_size) == (561, 753, 200)
    sizes = [tuple(layer.conv.weight.shape[2:]) for layer in (*net.vertical, *net.horizontal)]  # pyright: ignore
    assert sizes == [(38, 7), (67, 7), (1, 128), (1, 64), (1, 32)]


def test_filters_of_even_length_are_padded_more_at_the_end() -> None:
    assert [divide_padding(length) for length in (7, 32, 128)] == [(3, 3), (15, 16), (63, 64)]


def test_horizontal_filters_correlate_in_time() -> None:
    """Each output is the sum of the frames around it, weighted; outside the patch are zeros."""
    net, patch = make_network(), torch.randn(1, 96, 50)
    layer: Any = net.horizontal[2]
    with torch.no_grad():
        rows = net.norm(patch[None])[0, 0].numpy()
        padded = np.pad(rows, ((0, 0), (15, 16)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, 32, axis=1)
        summed = windows @ layer.conv.weight[:, 0, 0].numpy().T + layer.conv.bias.numpy()
        norm = layer.norm
        slope = (norm.weight / (norm.running_var + 1e-3).sqrt()).numpy()
        values = (np.maximum(summed, 0) - norm.running_mean.numpy()) * slope + norm.bias.numpy()
        found = net.pool(patch).maximum[0, 510:561]
    np.testing.assert_allclose(found, values.max(axis=(0, 1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("bins", "frames"), [(96, 187), (96, 60), (40, 100)])
def test_the_faster_form_computes_the_same(bins: int, frames: int) -> None:
    net, patches = make_network(bins=bins), torch.randn(3, bins, frames)
    fast = MusicnnInference(net)
    with torch.inference_mode():
        expected = net.pool(patches)
        for found, wanted in zip(fast.pool(patches), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        units = fast.embed(expected)
        torch.testing.assert_close(units, net.embed(expected), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fast.tags(units), net(patches), rtol=1e-4, atol=1e-4)


def test_long_clips_are_averaged_over_patches() -> None:
    net, clip = make_network(), torch.randn(1, 96, 2 * 187 + 20)
    with torch.inference_mode():
        parts = torch.cat([net(clip[:, :, :187]), net(clip[:, :, 187:374])])
        torch.testing.assert_close(net(clip), parts.mean(dim=0, keepdim=True))
        logits, units = net(clip, embedded=True)
        torch.testing.assert_close(net.tags(units), logits)


@pytest.mark.parametrize("shape", [(1, 1), (12, 40), (128, 200)])
def test_it_trains_on_features_of_any_size(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = Musicnn(5, timbre=8, rhythm=4, middle=6)
    initialise_lazy(net, shape)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    features, labels = torch.randn(4, *shape), torch.arange(4)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(features), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"heights": [0.4, 1.2]}, r"model\.heights=\[0\.4, 1\.2\]: numbers above 0 and up to 1"),
        ({"heights": []}, "model.heights="),
        ({"lengths": [0]}, r"model\.lengths=\[0\]"),
        ({"units": 0}, "units=0: numbers of 1 or more"),
        ({"dropout": 1}, "model.dropout=1"),
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        Musicnn(4, **setting)


def test_the_input_is_the_mel_power_on_a_logarithmic_scale() -> None:
    import librosa

    power = librosa.feature.melspectrogram(
        y=make_music(), sr=16_000, n_fft=512, hop_length=256, n_mels=96
    )
    found = compute_mel(make_music())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.log10(10_000 * power + 1), atol=2e-5)


@pytest.mark.parametrize(
    ("frames", "starts"), [(187, [0]), (1876, [*range(0, 1870, 187)]), (300, [0, 113]), (280, [0])]
)
def test_clips_are_cut_into_patches(frames: int, starts: list[int]) -> None:
    mel = np.tile(np.arange(frames), (96, 1))
    assert cut_patches(mel, PATCH)[:, 0, 0].tolist() == starts


def test_features_have_the_declared_shape(random_weights: MusicnnInference) -> None:
    for duration, patches in ((6.0, 2), (1.5, 1), (3.0, 1)):
        for features in (MusicnnEmbedding(duration), MusicnnFrames(duration)):
            size = 1 if type(features) is MusicnnEmbedding else patches
            assert features.shape == (200, size)
            assert compute_features(features, make_music(), 16_000).shape == (200, size)


def test_the_embedding_is_the_mean_over_time(random_weights: MusicnnInference) -> None:
    over_time = MusicnnFrames(6.0)(make_music(), 16_000)
    found = MusicnnEmbedding(6.0)(make_music(), 16_000)
    np.testing.assert_allclose(found[:, 0], over_time.mean(axis=1), rtol=1e-5, atol=1e-6)


def test_silence_that_fills_up_a_clip_is_left_out(random_weights: MusicnnInference) -> None:
    music = make_music()
    expected = MusicnnEmbedding(6.0)(music, 16_000)
    found = compute_features(MusicnnEmbedding(30.0), music, 16_000)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_short_and_silent_clips_have_features(random_weights: MusicnnInference) -> None:
    for clip in (make_music()[:3000], np.zeros(96_000, np.float32)):
        values = compute_features(MusicnnEmbedding(6.0), clip, 16_000)
        assert np.isfinite(values).all()


def test_the_number_of_threads_stays(random_weights: MusicnnInference) -> None:
    before = torch.get_num_threads()
    MusicnnEmbedding(3.0)(make_music(), 16_000)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("kind", [MusicnnEmbedding, MusicnnFrames])
def test_features_are_described_and_identified(kind: Any) -> None:
    features = kind(6.0)
    described = describe_features(features)
    assert described == {"_target_": f"genreclf.models.{kind.__name__}", "duration": 6.0}
    assert build_features(described) == features == pickle.loads(pickle.dumps(features))
    assert identify_features(features) == {
        "class": f"genreclf.models.{kind.__name__}",
        "version": "1 312173d658bd",
        "duration": 6.0,
    }
    with pytest.raises(InputError, match=r"features\.duration=0"):
        kind(0)


def test_without_weights_one_line_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENRECLF_CACHE", str(tmp_path))
    dataset = Synthetic(tmp_path / "music", duration=3.0, artists=1, clips=1)
    line = "features=musicnn needs the weights of musicnn: type genreclf download model=musicnn"
    with pytest.raises(InputError, match=f"^{line}$"):
        plan_store(dataset, MusicnnEmbedding(3.0), outputs=tmp_path)


def test_tags_of_generated_music_are_those_of_the_authors_graph(musicnn_weights: Path) -> None:
    tags = compute_tags(make_music())
    assert tuple(tags) == TAGS
    best = dict(sorted(tags.items(), key=lambda each: -each[1])[:3])
    assert best == pytest.approx(
        {"electronic": 0.31983, "ambient": 0.19314, "experimental": 0.12048}, abs=2e-5
    )


@pytest.mark.parametrize("name", TENSORFLOW)
def test_tags_of_real_music_are_those_of_the_authors_graph(
    musicnn_weights: Path, real_music: Path, name: str
) -> None:
    waveform, _ = read_audio(str(real_music / name), 16_000, 30.0)
    tags = compute_tags(waveform)
    best = dict(sorted(tags.items(), key=lambda each: -each[1])[:3])
    assert best == pytest.approx(TENSORFLOW[name], abs=2e-4)  # decoders differ in the last bits


@pytest.mark.slow
def test_workers_extract_it(
    command: Callable[..., str], musicnn_weights: Path, music: Path
) -> None:
    data = ["data=folder", f"data.root={music}", "data.duration=2.5", "workers=1"]
    assert "folder-musicnn-" in command("prepare", *data, "features=musicnn")
