from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from genreclf.errors import InputError
from genreclf.models import SVM
from genreclf.models.heads import compute_statistics


def clips(count: int = 90) -> tuple[torch.Tensor, np.ndarray]:
    """Noise (count, 5, 20) whose level tells its label, 0 to 2."""
    labels = np.arange(count) % 3
    noise = np.random.default_rng(0).normal(size=(count, 5, 20)) + labels[:, None, None]
    return torch.from_numpy(noise.astype(np.float32)), labels


def compute_rows(features: torch.Tensor) -> np.ndarray:
    return compute_statistics(features.double()).numpy()


def test_statistics_by_hand() -> None:
    features = torch.tensor([[[1.0, 3.0, 2.0], [0.0, 0.0, 6.0]]])
    expected = [2, 2, 1, np.sqrt(12), 1.5, 3]
    np.testing.assert_allclose(compute_rows(features), [expected], rtol=1e-12)
    np.testing.assert_array_equal(compute_rows(features[:, :, :1]), [[1, 0]])


@pytest.mark.parametrize("classes", [2, 3])
def test_it_decides_as_scikit_learn_does(classes: int) -> None:
    features, labels = clips()
    features, labels = features[labels < classes], labels[labels < classes]
    machine = SVM(classes, C=2.0)
    machine.fit(features.split(16), labels)
    plain = make_pipeline(StandardScaler(), SVC(C=2.0, break_ties=classes > 2))
    plain.fit(compute_rows(features), labels)
    others = features + 0.5
    found = machine(others)
    assert found.shape == (len(features), classes)
    np.testing.assert_array_equal(found.argmax(dim=1), plain.predict(compute_rows(others)))


def test_a_class_without_training_tracks_is_never_predicted() -> None:
    features, labels = clips()
    machine = SVM(4)
    machine.fit([features], labels + 1)
    assert torch.isneginf(machine(features)[:, 0]).all()


@pytest.mark.parametrize("setting", [{"C": 0}, {"gamma": "auto"}, {"gamma": -1.0}])
def test_impossible_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"model\.C="):
        SVM(2, **setting)


def test_a_run_has_its_figures_and_its_page_without_epochs(
    train: Callable[..., dict[str, Any]],
) -> None:
    result = train("model=svm", "split=artist", "report=true")
    assert result["history"] == []
    assert result["metrics"]["val/accuracy"] == result["val"]["accuracy"]
    assert result["metrics"]["test/accuracy"] > 0.3  # of 4 genres
    page = (Path(result["folder"]) / "report.html").read_text()
    assert "<h3>Training</h3>" not in page
    assert " kept by " not in page
    assert '<p class="soft">no trainable parameters; trained in' in page
    assert " parameters" not in (Path(result["folder"]) / "train.log").read_text()


def test_it_has_no_number_of_parameters_in_any_table(
    train: Callable[..., dict[str, Any]], command: Callable[..., str], tmp_path: Path
) -> None:
    """It was said to have 0 parameters, which would make it the smallest of all models."""
    folders = [train(f"model={model}", "test=false")["folder"] for model in ("svm", "linear")]
    command("summary", f"runs=[{','.join(map(str, folders))}]", f"file={tmp_path}/summary.csv")
    heading, _, *rows = [
        [cell.strip() for cell in line.split("|")]
        for line in (tmp_path / "summary.md").read_text().splitlines()
        if line.startswith("|")
    ]
    place = heading.index("parameters")
    shown = {row[1].rpartition("model=")[2].strip("`").split()[0]: row[place] for row in rows}
    assert shown == {"svm": "–", "linear": "388"}  # 3 statistics of 32 bands, for 4 genres
    page = Path(command("report", f"runs=[{','.join(map(str, folders))}]")).read_text()
    assert "<td>–</td>" in page
