import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from genreclf import files
from genreclf.errors import InputError
from genreclf.evaluation import runs


def test_json_is_whole_and_valid(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    files.write_json(path, {"a": [1.5, float("nan")], "b": (float("inf"),)})
    assert json.loads(path.read_text()) == {"a": [1.5, None], "b": [None]}
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert json.loads(path.read_text())["b"] == [None]
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_predictions_come_back(tmp_path: Path) -> None:
    classes = ["Rock, hard", 'the "other"']
    scores = np.array([[0.25, 0.75], [0.5, 0.5]])
    made = runs.Predictions(["a/ü,1.mp3", "b"], np.array([1, 0]), scores, classes)
    made.write(tmp_path / "p.csv")
    read = runs.Predictions.read(tmp_path / "p.csv")
    assert (read.track_ids, read.classes) == (made.track_ids, classes)
    np.testing.assert_array_equal(read.labels, made.labels)
    np.testing.assert_allclose(read.scores, scores)


def test_missing_and_damaged_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        runs.read_runs(tmp_path / "none")
    with pytest.raises(InputError, match="no finished run"):
        runs.read_runs(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        runs.read_runs(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(InputError, match=r"predictions\.csv is missing"):
        runs.read_runs(tmp_path)


def test_a_damaged_file_of_predictions_is_one_line(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0)
    run = runs.Run.read(tmp_path / "a")
    assert run.read_correct() == {"1": True}
    assert run.predictions.track_ids == ["1"]
    for text in ("", "track_id,genre,predicted,a\n1,a\n"):
        (tmp_path / "a" / runs.PREDICTIONS).write_text(text)
        damaged = runs.Run.read(tmp_path / "a")
        with pytest.raises(InputError, match=r"predictions\.csv is damaged"):
            damaged.read_correct()
        with pytest.raises(InputError, match=r"predictions\.csv is damaged"):
            _ = damaged.predictions


def test_correct_tracks_are_read_whatever_the_names(tmp_path: Path) -> None:
    """A header that is longer than a line is still the header."""
    write_run(tmp_path / "a", 0)
    made = runs.Predictions(
        ["one\ntrack", "b"], np.array([1, 0]), np.array([[0.25, 0.75]] * 2), ["a", "hip\nhop"]
    )
    made.write(tmp_path / "a" / runs.PREDICTIONS)
    run = runs.Run.read(tmp_path / "a")
    assert run.read_correct() == {"one\ntrack": True, "b": False}
    assert run.predictions.classes == made.classes


def write_run(folder: Path, seed: int, tested_on: str = "test") -> Path:
    folder.mkdir(parents=True)
    predictions = runs.Predictions(["1"], np.array([0]), np.array([[0.75, 0.25]]), ["a", "b"])
    predictions.write(folder / runs.PREDICTIONS)
    val, test = ({"accuracy": share, "f1_macro": 0.5, "loss": 1.5} for share in (0.25, 0.75))
    result = {"val": val, "test": val if tested_on == "val" else test, "tested_on": tested_on}
    config = {"seed": seed, "optimizer": {"lr": 0.1}, "oversampling": {"genres": ["a"]}}
    result |= {"params": 3, "best_epoch": 0, "seconds": 1.5, "config": config}
    files.write_json(folder / runs.RESULT, result)
    return folder


def test_runs_are_a_sequence_in_the_order_of_their_folders(tmp_path: Path) -> None:
    second, first = write_run(tmp_path / "a" / "b", 1), write_run(tmp_path / "a" / "a", 0)
    found = runs.read_runs(str(tmp_path))
    assert [run.folder for run in found] == [first, second]
    assert len(found) == 2
    assert found[-1].result["config"]["seed"] == 1
    assert isinstance(found[:1], runs.Runs)
    assert [run.folder for run in found[1:]] == [second]
    assert [run.folder for run in runs.read_runs([first, second, tmp_path])] == [first, second]
    assert len(runs.read_runs(first)) == 1


def test_a_frame_has_a_row_for_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "a", 0)
    write_run(tmp_path / "b", 1, "val")
    found = runs.read_runs(tmp_path)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install .genreclf\[pandas\]"):
        found.to_frame()
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    first, second = found.to_frame()
    assert (first["folder"], first["val/accuracy"], first["test/accuracy"]) == (
        str(tmp_path / "a"),
        0.25,
        0.75,
    )
    assert (first["config.seed"], first["config.optimizer.lr"]) == (0, 0.1)
    assert first["config.oversampling.genres"] == ["a"]
    assert second["val/accuracy"] == 0.25
    assert "test/accuracy" not in second
