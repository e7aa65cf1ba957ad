"""The net that comes with genreclf."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import genreclf
from genreclf.commands import predict
from genreclf.models import count_parameters
from genreclf.models.checkpoint import load_checkpoint
from genreclf.models.model_files import PRETRAINED

GENRES = [
    *("Electronic", "Experimental", "Folk", "Hip-Hop"),
    *("Instrumental", "International", "Pop", "Rock"),
]


def test_it_is_small_knows_its_features_and_has_a_card() -> None:
    trained = load_checkpoint("pretrained")
    assert trained.classes == GENRES
    assert trained.features.name == "mel_frames"
    assert count_parameters(trained.net) <= 1_000_000
    assert sum(file.stat().st_size for file in PRETRAINED.iterdir()) < 4.1e6
    card = (PRETRAINED / "README.md").read_text()
    for said in (
        *GENRES,
        "Creative Commons",
        "expected calibration error",
        "Limits",
        "experiment",
    ):
        assert said in card


def test_predict_takes_it_unless_told_otherwise(
    fma_clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert predict.main([str(fma_clip), "--format", "json"]) == 0
    line = json.loads(capfd.readouterr().out)
    assert line["genre"] == "Hip-Hop"
    assert list(line["scores"]) != GENRES
    assert sorted(line["scores"]) == GENRES


def test_a_clip_and_its_row_give_the_same_scores(fma_clip: Path, fma_rows: Path) -> None:
    with np.load(fma_rows) as rows:
        place = int(np.flatnonzero(rows["track_ids"] == 2)[0])
        row = rows["features"][place].astype(np.float32) * 80 / 255 - 80
    trained = load_checkpoint("pretrained")
    with torch.no_grad():
        scores = trained.net(trained.normalise(torch.from_numpy(row)[None])).softmax(dim=1)[0]
    prediction = genreclf.load(device="cpu").predict(fma_clip)
    of_clip = [prediction.scores[genre] for genre in trained.classes]
    np.testing.assert_allclose(of_clip, scores.numpy(), atol=0.01)


def test_it_is_evaluated_by_its_name(
    command: Callable[..., str], fma_rows: Path, tmp_path: Path
) -> None:
    with np.load(fma_rows) as rows:
        chosen = np.flatnonzero(np.char.startswith(rows["split"], "val"))[::8]
        arrays = {name: rows[name][chosen] for name in ("features", "labels", "track_ids")}
    np.savez(tmp_path / "rows.npz", **arrays, scale=80 / 255, offset=-80.0)
    data = ["data=npz", f"data.path={tmp_path}/rows.npz", "split=all"]
    evaluation = json.loads(Path(command("evaluate", "checkpoint=pretrained", *data)).read_text())
    assert evaluation["n"] == 100
    assert evaluation["trained_on"] == 0
    assert evaluation["accuracy"] > 0.5
