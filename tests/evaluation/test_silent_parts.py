"""Silence and constant offsets do not change a model's answer (B17, C8)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import genreclf
from genreclf.evaluation.prediction import Prediction

RATE = 44100


@pytest.fixture(scope="module")
def model() -> genreclf.Model:
    return genreclf.load("fma8", "cpu")


@pytest.fixture(scope="module")
def song(fma_clip: Path) -> np.ndarray:
    samples, _ = soundfile.read(fma_clip, dtype="float32", start=5 * RATE, frames=12 * RATE)
    return 0.8 * samples


def quiet(seconds: float, level: float = 0.0) -> np.ndarray:
    return np.full((int(seconds * RATE), 2), level, np.float32)


def join(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)


def differ(found: Prediction, expected: Prediction) -> float:
    assert found.is_unknown == expected.is_unknown
    return max(abs(found.scores[name] - score) for name, score in expected.scores.items())


SAME: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "3 s before": lambda song: join(quiet(3), song),
    "32 s before": lambda song: join(quiet(32), song),
    "30 s after": lambda song: join(song, quiet(30)),
    "a constant after": lambda song: join(song, quiet(30, 0.01)),
    "that of 8 bits after": lambda song: join(song, quiet(30, -1 / 128)),
    "offset of 0.02": lambda song: song + np.float32(0.02),
    "offset of 0.1": lambda song: song + np.float32(0.1),
}


@pytest.mark.parametrize("kind", SAME)
def test_silence_around_music_changes_no_score(
    kind: str, model: genreclf.Model, song: np.ndarray
) -> None:
    """3 s of zeros before music were "unknown"; 30 s of a constant after it, another genre."""
    expected = model.predict((song.T, RATE))
    found = model.predict((SAME[kind](song).T, RATE))
    assert differ(found, expected) < 0.01
    start = {"3 s before": 3, "32 s before": 32}.get(kind, 0)
    assert found.timeline[0].start == pytest.approx(start, abs=0.01)
    assert found.timeline[-1].end == pytest.approx(start + 12, abs=0.01)


def test_silence_within_music_is_not_unknown(
    tmp_path: Path, model: genreclf.Model, song: np.ndarray
) -> None:
    """Windows that were half silent were "unknown"."""
    path = tmp_path / "song.wav"
    samples = join(song[: 4 * RATE], quiet(8), song[4 * RATE :], quiet(25), song)
    soundfile.write(path, samples, RATE)
    found = model.predict(path)
    assert not found.is_unknown
    assert found.genre == model.predict((song.T, RATE)).genre
    assert found.timeline[-1].end == pytest.approx(57, abs=0.01)


@pytest.mark.parametrize("seconds", [0.001, 0.2, 1])
@pytest.mark.parametrize("period", [0.7, 3, 10, 40])
def test_clicks_and_noise_in_silence_stay_unknown_b17(
    period: float, seconds: float, model: genreclf.Model
) -> None:
    """B17: however much of the silence between them is left out."""
    samples, random = np.zeros(60 * RATE, np.float32), np.random.default_rng(0)
    size = int(min(seconds, period / 2) * RATE)
    for start in range(RATE, len(samples) - size, int(period * RATE)):
        samples[start : start + size] = random.normal(0, 0.2, size)
    found = model.predict((samples, RATE))
    assert not found.error
    assert found.is_unknown
