import numpy as np
import pytest

from genreclf import metrics

CLASSES = ["a", "b", "c"]


def scores(predicted: list[int], sure: float = 0.8) -> np.ndarray:
    table = np.full((len(predicted), 3), (1 - sure) / 2)
    table[np.arange(len(predicted)), predicted] = sure
    return table


def test_interval_is_the_papers() -> None:
    low, high = metrics.interval(1082, 1700)  # 63.65 %: "61.3 to 65.9"
    assert low == pytest.approx(0.6133, abs=5e-5)
    assert high == pytest.approx(0.6590, abs=5e-5)
    assert metrics.interval(0, 10)[0] == 0
    assert metrics.interval(10, 10)[1] == 1


def test_figures_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    figures = metrics.evaluate(labels, scores([0, 0, 1, 1, 2, 2]), CLASSES)
    assert figures["accuracy"] == pytest.approx(4 / 6)
    assert figures["n"] == 6
    assert figures["confusion"] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert figures["per_genre"]["a"] == pytest.approx(
        {"precision": 1, "recall": 2 / 3, "f1": 0.8, "support": 3}
    )
    assert figures["f1_macro"] == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert figures["loss"] == pytest.approx(-(4 * np.log(0.8) + 2 * np.log(0.1)) / 6)


def test_an_absent_genre_does_not_lower_macro_f1() -> None:
    figures = metrics.evaluate(np.array([0, 1]), scores([0, 1]), CLASSES)
    assert figures["f1_macro"] == 1
    assert figures["per_genre"]["c"]["support"] == 0


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="2 labels, 3 classes"):
        metrics.evaluate(np.array([0, 1]), np.zeros((2, 2)), CLASSES)


def test_roc() -> None:
    labels = np.array([0, 0, 1, 1])
    table = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0.5, 0.5, 0], [0.1, 0.9, 0]])
    curves = metrics.roc(labels, table, CLASSES)
    assert set(curves) == {"a", "b"}
    assert curves["a"][2] == pytest.approx(0.75)
