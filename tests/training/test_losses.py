"""Losses against their formulas."""

import pytest
import torch
from torch.nn import functional

from genreclf.errors import InputError
from genreclf.training import CrossEntropy

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.2, 0.1], [-3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 2, 1, 0])


def test_without_settings_it_is_the_cross_entropy() -> None:
    loss = CrossEntropy()
    loss.fit(torch.tensor([5, 1, 1]))
    assert loss(LOGITS, LABELS) == functional.cross_entropy(LOGITS, LABELS)
    soft = functional.one_hot(LABELS, 3).float() * 0.9 + 0.1 / 3
    smoothed = functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    torch.testing.assert_close(loss(LOGITS, soft), smoothed)


def test_balanced_genres_count_the_same() -> None:
    """With weights, a genre of 90 tracks adds as much to an epoch's loss as one of 10."""
    counts = torch.tensor([90, 10, 0])
    loss = CrossEntropy(weights="balanced")
    loss.fit(counts)
    assert loss.weights is not None
    torch.testing.assert_close(loss.weights * counts, torch.tensor([50.0, 50.0, 0.0]))
    labels = torch.tensor([0, 1, 1, 0])
    each = functional.cross_entropy(LOGITS, labels, reduction="none")
    torch.testing.assert_close(loss(LOGITS, labels), (each * loss.weights[labels]).mean())


def test_the_focal_loss_is_that_of_its_paper() -> None:
    logs = LOGITS.log_softmax(dim=1)[torch.arange(4), LABELS]
    expected = (-((1 - logs.exp()) ** 2) * logs).mean()
    torch.testing.assert_close(CrossEntropy(gamma=2.0)(LOGITS, LABELS), expected)
    soft = functional.one_hot(LABELS, 3).float()
    torch.testing.assert_close(CrossEntropy(gamma=2.0)(LOGITS, soft), expected)


def test_a_certain_prediction_has_a_finite_slope() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    CrossEntropy(gamma=0.5)(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="weights=all: choose none or balanced"):
        CrossEntropy(weights="all")
    with pytest.raises(InputError, match="gamma=-1"):
        CrossEntropy(gamma=-1)
