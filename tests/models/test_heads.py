"""Linear and MLP: classifiers on embeddings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import genreclf
from genreclf.errors import InputError
from genreclf.models import MLP, Linear, initialise_lazy


def embeddings(count: int = 90) -> tuple[torch.Tensor, np.ndarray]:
    """Noise (count, 6, 1) whose level tells its label, 0 to 2."""
    labels = np.arange(count) % 3
    noise = np.random.default_rng(0).normal(size=(count, 6, 1)) * [[3], [1], [1], [1], [1], [9]]
    return torch.from_numpy((noise + labels[:, None, None]).astype(np.float32)), labels


def fit(classes: int, labels: np.ndarray, features: torch.Tensor) -> Linear:
    model = Linear(classes, C=0.5)
    initialise_lazy(model, (6, 1))
    model.fit(features.split(16), labels)
    return model


@pytest.mark.parametrize("classes", [2, 3])
def test_it_gives_the_probabilities_of_scikit_learn(classes: int) -> None:
    features, labels = embeddings()
    features, labels = features[labels < classes], labels[labels < classes]
    model = fit(classes, labels, features)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=2000))
    plain.fit(features[:, :, 0].numpy(), labels)
    others = features * 1.5
    expected = plain.predict_proba(others[:, :, 0].numpy())
    np.testing.assert_allclose(model(others).softmax(dim=1).detach(), expected, atol=1e-4)


def test_a_class_without_training_tracks_is_never_predicted() -> None:
    features, labels = embeddings()
    scores = fit(4, labels + 1, features)(features).softmax(dim=1)
    assert float(scores[:, 0].detach().max()) < 1e-6


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"model\.C=0"):
        Linear(2, C=0)
    with pytest.raises(InputError, match=r"model\.hidden=0"):
        MLP(2, hidden=0)


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_a_run_leaves_a_checkpoint_that_predicts(
    model: str, train: Callable[..., dict[str, Any]], music: Path
) -> None:
    """The scores of the tested tracks are those of the loaded checkpoint."""
    settings = ["trainer.max_epochs=3"] if model == "mlp" else []
    result = train(f"model={model}", *settings)
    lines = (Path(result["folder"]) / "predictions.csv").read_text().splitlines()
    names = lines[0].split(",")
    row = dict(zip(names, lines[1].split(","), strict=True))
    loaded = genreclf.load(result["folder"], "cpu")
    scores = loaded.predict(music / row["track_id"]).scores
    for genre, score in scores.items():
        assert float(row[genre]) == pytest.approx(score, abs=1e-4)
    assert loaded.embed(music / row["track_id"]).ndim == 1
