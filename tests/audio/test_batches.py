"""Features that one process computes for many clips at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from genreclf.audio.batches import (
    choose_work,
    compute_windows,
    extract_in_order,
)
from genreclf.audio.features import MelFrames
from genreclf.audio.pool import Event
from genreclf.audio.workers import Decoding, extract, extract_windows
from genreclf.errors import InputError
from genreclf.evaluation.windows import compute_files

RATE = 16_000


class Loudness:
    """Batched features; `lost` of the results are missing."""

    name: ClassVar[str] = "loudness"
    version: ClassVar[int] = 1
    sample_rate, duration, shape, batched = RATE, 2.5, (2, 1), True

    def __init__(self, lost: int = 0, factor: float = 1.0) -> None:
        self.lost, self.factor = lost, factor
        self.sizes: list[int] = []

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        return self.factor * np.array([[waveform.max()], [waveform.min()]], np.float32)

    def compute_batch(self, clips: Sequence[tuple[np.ndarray, int]]) -> list[np.ndarray]:
        self.sizes.append(len(clips))
        return [self(*clip) for clip in clips][self.lost :]


def test_rows_are_computed_here_and_in_order(music: Path, tmp_path: Path) -> None:
    """Files that do not decode have a reason instead, and take no part in a batch."""
    (tmp_path / "bad.mp3").write_bytes(b"nothing" * 100)
    paths = [str(path) for path in sorted(music.rglob("*.mp3"))[:18]]
    paths.insert(3, str(tmp_path / "bad.mp3"))
    features = Loudness()
    rows = list(extract_in_order(paths, features, 2))
    assert features.sizes == [15, 3]
    assert isinstance(rows.pop(3), str)
    del paths[3]
    for path, row in zip(paths, rows, strict=True):
        alone = extract(path, features)
        assert row[1] == alone[1] == 2.5
        np.testing.assert_array_equal(row[0], alone[0])


def test_others_are_computed_by_the_workers(music: Path) -> None:
    features = MelFrames(duration=2.5, frames=4)
    assert choose_work(features) is features
    path = str(next(music.rglob("*.mp3")))
    (row,) = extract_in_order([path], features, 1)
    np.testing.assert_array_equal(row[0], extract(path, features)[0])


def test_windows_keep_their_place(music: Path) -> None:
    path, features = str(next(music.rglob("*.mp3"))), Loudness()
    (window,) = (each for each in extract_windows(path, features) if each)
    (decoded,) = (each for each in extract_windows(path, choose_work(features)) if each)
    assert choose_work(features) == Decoding(RATE, 2.5, RATE)
    end = Event(0, [], ended=True)
    found = compute_windows(features, [Event(0, decoded), end, Event(1, decoded)])
    assert [event.number for event in found] == [0, 0, 1]
    assert found[1] is end
    np.testing.assert_array_equal(found[2].value.features, window.features)
    assert features.sizes == [2]


def test_values_that_are_not_finite_reject_their_file(music: Path) -> None:
    path = str(next(music.rglob("*.mp3")))
    (row,) = extract_in_order([path], Loudness(factor=np.inf), 1)
    assert row == "features=loudness are not finite numbers"


def test_missing_results_are_refused(music: Path) -> None:
    path = str(next(music.rglob("*.mp3")))
    with pytest.raises(InputError, match="compute_batch gives 0 results for 1 clips; correct Loud"):
        list(extract_in_order([path], Loudness(lost=1), 1))


def test_windows_that_are_not_finite_cost_their_file(music: Path) -> None:
    """They were taken for results of the model."""
    path = str(next(music.rglob("*.mp3")))
    (decoded,) = (each for each in extract_windows(path, choose_work(Loudness())) if each)
    (found, end) = compute_windows(
        Loudness(factor=np.inf), [Event(3, decoded), Event(3, [], ended=True)]
    )
    assert (found.number, found.value, found.ended) == (3, None, False)
    batches = [[event._replace(number=0) for event in (found, end)]]
    (file,) = compute_files(batches, lambda rows: np.zeros((len(rows), 1)))
    assert file.error == "features=loudness are not finite numbers"


def test_windows_of_another_shape_are_refused(music: Path) -> None:
    path, features = str(next(music.rglob("*.mp3"))), Loudness()
    (decoded,) = (each for each in extract_windows(path, choose_work(features)) if each)
    features.shape = (3, 1)
    with pytest.raises(InputError, match=r"values of shape \(2, 1\), but its attribute shape is"):
        compute_windows(features, [Event(0, decoded)])
