"""Embeddings are not augmented as spectrograms are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genreclf.commands import train as train_command
from genreclf.training import NoiseShiftMask

MLP = ["data=npz", "model=mlp", "report=false", "trainer.max_epochs=1"]


@pytest.fixture
def embeddings(tmp_path: Path) -> str:
    """An archive of 24 embeddings of 8 values."""
    rng, ids = np.random.default_rng(0), np.arange(24)
    path = tmp_path / "rows.npz"
    np.savez(
        path,
        features=rng.normal(size=(24, 8)).astype(np.float32),
        labels=np.array(["a", "b"])[ids % 2],
        track_ids=ids,
    )
    return f"data.path={path}"


def refuse_call(*_: Any) -> torch.Tensor:
    raise AssertionError("a single frame is augmented")


def test_embeddings_are_left_as_they_are(
    command: Callable[..., str],
    embeddings: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when their shape is known only once the store is written; the name of the run stays."""
    monkeypatch.setattr(NoiseShiftMask, "forward", refuse_call)
    copies = "oversampling.genres=[a]"
    first = command("train", *MLP, embeddings, copies)
    line = "features=precomputed are a single frame: they are not augmented"
    assert line in Path(first).with_name("train.log").read_text()
    assert command("train", *MLP, embeddings, copies) == first
    monkeypatch.setattr(train_command, "_train", refuse_call)  # the finished run is found
    assert command("train", *MLP, embeddings, copies, "cache=memory") == first


def test_asking_for_it_is_refused(
    command: Callable[..., str], embeddings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for typed in ("augmentation=strong", "augmentation.noise=0.1"):
        with pytest.raises(SystemExit):
            command("train", *MLP, embeddings, typed)
        line = f"which {typed} is not made for; leave that out"
        assert line in capsys.readouterr().err
    asked = "augmentation@oversampling.augmentation=standard"
    with pytest.raises(SystemExit):
        command("train", *MLP, embeddings, "oversampling.genres=[a]", asked)
    assert f"which {asked} is not made for" in capsys.readouterr().err
    command("train", *MLP, embeddings, "augmentation=none")


def test_a_frame_of_a_spectrogram_is_augmented(
    train: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bands of frequencies can be masked in a single frame, too."""
    calls = []
    monkeypatch.setattr(NoiseShiftMask, "forward", lambda _, x: calls.append(x.shape) or x)
    frames = "features=mel_frames", "features.frames=1", "features.sample_rate=16000"
    train(*frames, "model=mlp", "augmentation=standard", "test=false")
    assert calls[-1][2] == 1


@pytest.mark.slow
def test_in_a_sweep_it_is_left_out(
    command: Callable[..., str], embeddings: str, tmp_path: Path
) -> None:
    """In a sweep, which may have other features, augmentation is left out without a word."""
    command("train", "-m", *MLP, embeddings, "augmentation=standard,none", "test=false")
    assert len([*tmp_path.glob("train/*/result.json")]) == 2
