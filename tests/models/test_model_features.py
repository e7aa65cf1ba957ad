"""features=embedding: the embedding of any model of genreclf as features."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genreclf
from genreclf.audio.descriptions import build_features, describe_features, identify_features
from genreclf.audio.own_features import compute_features
from genreclf.errors import InputError
from genreclf.models import ModelEmbedding
from genreclf.models.model_files import PRETRAINED

RATE = 44_100  # Hz, of the bundled model


def make_noise(seconds: float) -> np.ndarray:
    size = int(seconds * RATE)
    return np.random.default_rng(0).normal(0, 0.1, size).astype(np.float32)


def change_model(folder: Path, **changes: Any) -> str:
    """Copy the bundled model and change its description."""
    shutil.copytree(PRETRAINED, folder)
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**description, **changes}))
    return str(folder)


@pytest.mark.parametrize("seconds", [5, 45])
def test_it_is_the_embedding_of_the_model(seconds: float) -> None:
    """A clip longer than the model's 30 s is averaged over windows, as `Model.embed` does."""
    clip, features = make_noise(seconds), ModelEmbedding(duration=60.0)
    found = compute_features(features, clip, RATE)
    assert (features.shape, features.sample_rate) == ((608, 1), RATE)
    expected = genreclf.load("fma8", "cpu").embed((clip, RATE))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_short_and_silent_clips_have_features() -> None:
    for clip in (make_noise(1), np.zeros(3 * RATE, np.float32)):
        assert np.isfinite(compute_features(ModelEmbedding(), clip, RATE)).all()


def test_the_number_of_threads_stays() -> None:
    before = torch.get_num_threads()
    ModelEmbedding()(make_noise(2), RATE)
    assert torch.get_num_threads() == before


def test_the_model_counts_and_not_its_path(tmp_path: Path) -> None:
    copy = str(shutil.copytree(PRETRAINED, tmp_path / "copy"))
    here, there = ModelEmbedding(), ModelEmbedding(copy)
    assert here == there
    assert hash(here) == hash(there)
    assert identify_features(here) == identify_features(there)
    assert "pretrained" not in str(identify_features(here))
    assert identify_features(ModelEmbedding(duration=5.0)) != identify_features(here)
    other = change_model(tmp_path / "other", classes=[*"abcdefgh", "i"])
    assert identify_features(ModelEmbedding(other)) != identify_features(here)


def test_they_are_built_again_from_their_description() -> None:
    features = ModelEmbedding(duration=5.0)
    assert build_features(describe_features(features)) == features
    assert pickle.loads(pickle.dumps(features)) == features


def test_a_model_that_was_replaced_is_refused(tmp_path: Path) -> None:
    """A classifier never gets the embeddings of another model than it was trained on."""
    copy = tmp_path / "copy"
    features = ModelEmbedding(str(shutil.copytree(PRETRAINED, copy)))
    shutil.rmtree(copy)
    with pytest.raises(InputError, match=r"features\.checkpoint=.*copy: no such file or folder"):
        features.check_available()
    change_model(copy, classes=[*"abcdefghi"])
    with pytest.raises(InputError, match="it contains another model than before"):
        features.check_available()


def test_code_outside_genreclf_is_not_imported(tmp_path: Path) -> None:
    """A file that describes features names a checkpoint, so it could name the code, too."""
    evil = change_model(tmp_path / "evil", model={"_target_": "mypackage.Net"})
    with pytest.raises(InputError, match=r"mypackage\.Net is not part of genreclf; only models"):
        ModelEmbedding(evil)


def test_models_on_precomputed_features_are_refused(tmp_path: Path) -> None:
    path = change_model(tmp_path / "npz", features={"name": "precomputed"})
    with pytest.raises(InputError, match="it was trained on precomputed features"):
        ModelEmbedding(path).check_available()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"checkpoint": "nowhere"}, "features.checkpoint=nowhere: no such file or folder"),
        ({"checkpoint": None}, "features.checkpoint=None: pretrained, a run's folder"),
        ({"duration": 1}, r"features\.duration=1: at least 2 s"),
        ({"duration": "x"}, r"features\.duration='x': at least 2 s"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        ModelEmbedding(**settings)


@pytest.mark.slow
def test_a_classifier_on_the_embedding_of_a_run_predicts(
    train: Callable[..., dict[str, Any]], music: Path
) -> None:
    """It trains in worker processes, records what the model has seen, and predicts files."""
    first = train("model=efficient_cnn", "split=stratified")
    result = train("features=embedding", f"features.checkpoint={first['folder']}", "model=linear")
    assert result["data"]["seen_before"]["test"] == 0  # the same split
    model = genreclf.load(result["folder"], device="cpu")
    assert model.predict(next(music.rglob("*.mp3"))).genre in model.classes
