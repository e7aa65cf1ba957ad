import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassF1Score

from genreclf.evaluation.metrics import evaluate
from genreclf.training.metrics import F1Macro

CLASSES = ["a", "b", "c"]


def make_scores(predicted: list[int]) -> np.ndarray:
    return np.where(np.eye(3)[predicted] == 1, 0.8, 0.1)


def test_training_and_evaluation_define_macro_f1_alike_a5() -> None:
    """A5: a genre that is predicted but that no track has does not lower macro F1."""
    labels, scores = np.array([0, 0, 1, 1]), make_scores([0, 2, 1, 1])
    metric = F1Macro(3)
    metric.update(torch.tensor(scores), torch.tensor(labels))
    assert evaluate(labels, scores, CLASSES)["f1_macro"] == pytest.approx(5 / 6)
    assert float(metric.compute()) == pytest.approx(5 / 6)


@pytest.mark.parametrize("seed", range(20))
def test_macro_f1_agrees_on_random_batches_a5(seed: int) -> None:
    """A5: also over batches, with genres missing from some of them or from all."""
    rng = np.random.default_rng(seed)
    count, present = int(rng.integers(1, 40)), int(rng.integers(1, 4))
    labels = rng.integers(0, present, count)
    scores = rng.dirichlet(np.ones(3), count)
    metric = F1Macro(3)
    for rows in np.array_split(np.arange(count), 3):
        if len(rows):
            metric.update(torch.tensor(scores[rows]), torch.tensor(labels[rows]))
    assert float(metric.compute()) == pytest.approx(evaluate(labels, scores, CLASSES)["f1_macro"])


def test_macro_f1_is_torchmetrics_if_every_genre_occurs() -> None:
    labels = torch.tensor([0, 1, 2, 2, 1])
    scores = torch.tensor(make_scores([0, 2, 2, 1, 1]))
    metric, theirs = F1Macro(3), MulticlassF1Score(3, average="macro")
    assert float(metric(scores, labels)) == pytest.approx(float(theirs(scores, labels)))
    metric.reset()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert float(metric.compute()) == 0
