"""Layers that keep their pretrained weights, and the fine-tuning of musicnn's last layers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genreclf
from genreclf.audio import MelFrames
from genreclf.errors import InputError
from genreclf.models import AttentiveCNN, Musicnn, MusicnnMel
from genreclf.models.checkpoint import TrainedModel, load_checkpoint
from genreclf.models.encoders.musicnn_features import compute_mel
from genreclf.models.encoders.musicnn_weights import load_published
from genreclf.training.finetune import find_frozen, find_new_layer, freeze


def test_frozen_layers_keep_weights_and_statistics() -> None:
    net = AttentiveCNN(3)
    layers = [name for name, _ in net.named_children()]
    freeze(net, layers[:1])
    frozen = net.get_submodule(layers[0])
    net.train()
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(net.get_submodule(name).training for name in layers[1:])


def test_unknown_layers_and_all_layers_are_refused() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    for names, line in [
        (["first"], r"init\.frozen: no layer first in this model; it has 0, 1"),
        (["0", "1"], r"init\.frozen: no layer is left to be trained"),
        ([""], r"init\.frozen: no layer  in this model"),
    ]:
        with pytest.raises(InputError, match=line):
            find_frozen(net, names)


def test_the_layer_that_learns_other_genres_is_not_frozen() -> None:
    net = torch.nn.Sequential()
    net.first = torch.nn.Linear(4, 4)
    net.classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 2))
    clips = torch.rand(2, 2, 4)
    pretrained = TrainedModel(net, ["a", "b"], MelFrames(), 2, None)
    assert find_new_layer(pretrained, ["c", "d"], clips, ["first"]) == "classifier.1"
    assert find_new_layer(pretrained, ["a", "b"], clips, ["classifier"]) is None
    for name in ("classifier", "classifier.1"):
        line = rf"init\.frozen: {name} holds the last layer, classifier\.1, .*leave {name} out"
        with pytest.raises(InputError, match=line):
            find_new_layer(pretrained, ["c", "d"], clips, [name])


def test_a_frozen_last_layer_is_refused_before_training(
    train: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train(
            *("init=pretrained", "features=mel_frames", "features.duration=30"),
            *("init.frozen=[classifier]", "split=artist"),
        )
    assert "init.frozen: classifier holds the last layer" in capsys.readouterr().err


def test_musicnn_mel_is_the_input_of_musicnn() -> None:
    for seconds in (5.0, 2.5):  # the second is shorter than a patch
        noise = np.random.default_rng(0).normal(0, 0.1, int(seconds * 16_000)).astype(np.float32)
        features = MusicnnMel(duration=seconds)
        found = features(noise, 16_000)
        assert found.shape == features.shape
        np.testing.assert_array_equal(found, compute_mel(noise))


@pytest.mark.slow
def test_init_musicnn_trains_the_last_layers_alone(
    train: Callable[..., dict[str, Any]], musicnn_weights: Path, music: Path
) -> None:
    given = "init=musicnn", "features=musicnn_mel", "split=artist"
    result = train(*given)
    net: Any = load_checkpoint(result["folder"]).net
    assert isinstance(net, Musicnn)
    found, published = net.state_dict(), load_published().state_dict()
    for name, values in published.items():
        kept = name.startswith(("norm.", "vertical.", "horizontal.", "middle."))
        if name.endswith("num_batches_tracked") or not values.is_floating_point():
            continue
        same = found[name].shape == values.shape and torch.allclose(found[name], values, rtol=1e-6)
        assert same == kept, name  # up to the rounding of the moving average
    model = genreclf.load(result["folder"], device="cpu")
    assert model.predict(next(music.rglob("*.mp3"))).genre in model.classes


@pytest.mark.slow
def test_wrong_layers_are_one_line(
    train: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    given = "init=pretrained", "features=mel_frames", "features.duration=30"
    with pytest.raises(SystemExit):
        train(*given, "init.frozen=[nowhere]", "split=artist")
    assert "init.frozen: no layer nowhere in this model" in capsys.readouterr().err
