import json
from pathlib import Path

import numpy as np
import pytest

from genreclf import files
from genreclf.errors import InputError
from genreclf.evaluation import runs


def test_a_run_is_its_config() -> None:
    config = {"seed": 0, "model": {"p": 0.3}, "outputs": "a", "num_workers": 0}
    digest = runs.digest_config(config)
    assert len(digest) == 8
    assert runs.digest_config({**config, "outputs": "b", "num_workers": 4}) == digest
    assert runs.digest_config({**config, "seed": 1}) != digest
    assert runs.digest_config({**config, "model": {"p": 0.4}}) != digest
    fma = {**config, "data": {"root": "a", "archives": [], "known_bad": {}}}
    mirrored = {**fma, "data": {**fma["data"], "archives": [{"url": "b"}], "known_bad": {"7": ""}}}
    assert runs.digest_config(mirrored) == runs.digest_config(fma) != digest


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


def test_provenance_names_what_computes() -> None:
    provenance = runs.collect_provenance()
    assert {"python", "genreclf", "torch", "librosa"} <= set(provenance["versions"])
    commit = provenance["commit"]
    assert commit is None or len(commit.removesuffix("-dirty")) == 40


def test_missing_and_damaged_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        runs.find_runs([tmp_path / "none"])
    with pytest.raises(InputError, match="no finished run"):
        runs.find_runs([tmp_path])
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        runs.find_runs([tmp_path])
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(InputError, match=r"predictions\.csv is missing"):
        runs.find_runs([tmp_path])
