import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax

from genreclf.errors import InputError
from genreclf.evaluation import intervals, metrics

CLASSES = ["a", "b", "c"]


def scores(predicted: list[int], sure: float = 0.8) -> np.ndarray:
    table = np.full((len(predicted), 3), (1 - sure) / 2)
    table[np.arange(len(predicted)), predicted] = sure
    return table


def test_interval_is_the_papers() -> None:
    low, high = intervals.compute_wilson_interval(1082, 1700)  # 63.65 %: "61.3 to 65.9"
    assert low == pytest.approx(0.6133, abs=5e-5)
    assert high == pytest.approx(0.6590, abs=5e-5)
    assert intervals.compute_wilson_interval(0, 10)[0] == 0
    assert intervals.compute_wilson_interval(10, 10)[1] == 1


def test_metrics_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    found = metrics.evaluate(labels, scores([0, 0, 1, 1, 2, 2]), CLASSES)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["n"] == 6
    assert found["confusion"] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert found["per_genre"]["a"] == pytest.approx(
        {"precision": 1, "recall": 2 / 3, "f1": 0.8, "support": 3}
    )
    assert found["f1_macro"] == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert found["loss"] == pytest.approx(-(4 * np.log(0.8) + 2 * np.log(0.1)) / 6)


def test_top3_accuracy_by_hand() -> None:
    table = np.array([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]])
    labels = np.array([3, 2, 3])  # fourth, third, and fourth of equal scores
    found = metrics.evaluate(labels, table, ["a", "b", "c", "d"])
    assert found["top3_accuracy"] == pytest.approx(1 / 3)
    assert metrics.rank_true_classes(labels, table).tolist() == [3, 2, 3]
    three = metrics.evaluate(labels % 3, table[:, :3], ["a", "b", "c"])
    assert three["top3_accuracy"] is None, "of three genres, it would be 1 whatever the scores"
    rng = np.random.default_rng(0)
    table, labels = rng.integers(0, 3, (200, 5)).astype(float), rng.integers(0, 5, 200)
    first = metrics.rank_true_classes(labels, table) == 0
    np.testing.assert_array_equal(first, table.argmax(axis=1) == labels)


def test_mean_average_precision_is_over_genres_that_occur() -> None:
    labels = np.array([0, 0, 1, 1])
    table = np.array([[0.9, 0.1, 0], [0.3, 0.7, 0], [0.5, 0.4, 0.1], [0.1, 0.6, 0.3]])
    found = metrics.evaluate(labels, table, CLASSES)
    first = (1 + 2 / 3) / 2  # tracks of genre a come first and third
    second = (1 / 2 + 2 / 3) / 2  # those of genre b second and third
    assert found["mean_average_precision"] == pytest.approx((first + second) / 2)


def test_an_absent_genre_does_not_lower_macro_f1() -> None:
    found = metrics.evaluate(np.array([0, 1]), scores([0, 1]), CLASSES)
    assert found["f1_macro"] == 1
    assert found["per_genre"]["c"]["support"] == 0


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="2 labels, 3 classes"):
        metrics.evaluate(np.array([0, 1]), np.zeros((2, 2)), CLASSES)
    with pytest.raises(ValueError, match="not finite"):
        metrics.evaluate(np.array([0, 1]), np.full((2, 3), np.nan), CLASSES)


def test_roc() -> None:
    labels = np.array([0, 0, 1, 1])
    table = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0.5, 0.5, 0], [0.1, 0.9, 0]])
    curves = metrics.compute_roc_curves(labels, table, CLASSES)
    assert set(curves) == {"a", "b"}
    assert curves["a"][2] == pytest.approx(0.75)


def test_temperature_undoes_what_sharpens_the_scores() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20000, 4))
    sure = softmax(logits, axis=1)
    labels = np.array([rng.choice(4, p=row) for row in sure])  # so the scores are right
    assert metrics.fit_temperature(labels, sure) == pytest.approx(1, abs=0.05)
    assert metrics.compute_calibration_error(labels, sure) < 0.01
    sharp = softmax(2 * logits, axis=1)
    assert metrics.fit_temperature(labels, sharp) == pytest.approx(2, abs=0.1)
    assert metrics.compute_calibration_error(labels, sharp) > 0.1


def test_reliability_by_hand() -> None:
    table = np.array([[0.95, 0.05], [0.91, 0.09], [0.45, 0.55], [0.0, 1.0]])
    labels = np.array([0, 1, 1, 1])
    parts = metrics.compute_reliability(labels, table)
    assert parts == [
        (0.55, 1.0, 1),
        (pytest.approx((0.95 + 0.91 + 1) / 3), pytest.approx(2 / 3), 3),
    ]
    gap = 1 * 0.45 + 3 * abs((0.95 + 0.91 + 1) / 3 - 2 / 3)
    assert metrics.compute_calibration_error(labels, table) == pytest.approx(gap / 4)


@pytest.mark.parametrize("name", ["mine", "mine_error"])
def test_a_metric_that_does_not_say_what_is_better(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name decides, and one line says so; a metric and a name that disagree are refused."""

    def check(higher_is_better: bool | None) -> None:
        metric = SimpleNamespace(higher_is_better=higher_is_better)
        metrics.check_metric("monitor", f"val/{name}", {name: metric})

    high = name == "mine"
    check(None)
    assert f"monitor=val/{name}: this metric has no higher_is_better" in caplog.text
    assert f"the {'highest' if high else 'lowest'} value is best" in caplog.text
    caplog.clear()
    check(high)
    assert not caplog.text
    with pytest.raises(InputError, match=r"(lower|higher) is better for this metric"):
        check(not high)


def test_importing_the_metrics_is_fast() -> None:
    code = (
        "import sys, genreclf.evaluation.metrics as metrics; metrics.find_direction('val/loss'); "
        "print(sorted({'scipy', 'sklearn', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
