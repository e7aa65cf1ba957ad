"""The tracks of a library that sound most like a file, and copies of its recording."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from encode import make_song, run_ffmpeg

from genreclf.audio.workers import extract, extract_levels
from genreclf.data.library import TEXTS, Library
from genreclf.data.similarity import (
    LEVELS,
    compare_recordings,
    compute_similarities,
    find_neighbours,
    fit_standard,
)
from genreclf.models import ModelEmbedding

RATE = 22050


def make_library(rows: np.ndarray, paths: list[str] | None = None, block: int = 3) -> Library:
    texts = {name: [""] * len(rows) for name in TEXTS}
    texts["path"] = paths or texts["path"]
    blocks = range(0, len(rows), block)
    return Library(
        "made",
        texts,
        np.zeros(len(rows), np.float32),
        rows.shape[1],
        {},
        {},
        lambda: (rows[start : start + block] for start in blocks),
    )


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("songs")
    paths = [folder / f"{seed}.wav" for seed in range(6)]
    for seed, path in enumerate(paths):
        soundfile.write(path, make_song(seed), RATE)
    return paths


def test_embeddings_are_standardised_by_the_library_block_by_block() -> None:
    rows = np.random.default_rng(0).normal(5, [0.1, 1, 2, 3], (40, 4)).astype(np.float32)
    standard = fit_standard(make_library(rows))
    deviation = rows.std(axis=0)
    assert standard.mean == pytest.approx(rows.mean(axis=0), rel=1e-5)
    assert standard.deviation == pytest.approx(deviation + 0.3 * deviation.mean(), rel=1e-5)
    values = (rows - standard.mean) / standard.deviation
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    found = compute_similarities(make_library(rows), standard, rows[:2])
    assert found == pytest.approx(values @ values[:2].T, abs=1e-5)


def test_a_library_of_few_tracks_is_compared_by_plain_cosines() -> None:
    """The mean of one track is the track: nothing would be left of it."""
    rows = np.array([[1.0, 2.0], [2.0, 1.0]], np.float32)
    for library in (make_library(rows), make_library(rows[:1])):
        found = compute_similarities(library, fit_standard(library), rows[:1])
        assert found[:, 0] == pytest.approx([1, 0.8][: len(library)])


def test_values_that_never_change_do_no_harm() -> None:
    rows = np.zeros((20, 4), np.float32)
    library = make_library(rows)
    assert np.isfinite(compute_similarities(library, fit_standard(library), rows[:1])).all()


def test_levels_are_those_of_a_louder_or_quieter_file(songs: list[Path], tmp_path: Path) -> None:
    features: Any = ModelEmbedding(duration=12.0)
    quiet = tmp_path / "quiet.wav"
    soundfile.write(quiet, 0.1 * make_song(0), RATE, subtype="FLOAT")
    steps = extract_levels(str(songs[0]), features, (0.0, -20.0))
    yielded = []
    while True:
        try:
            yielded.append(next(steps))
        except StopIteration as end:
            rows = end.value
            break
    assert yielded == [None, None]  # which shows that it is not stalled
    for row, path in zip(rows, (songs[0], quiet), strict=True):
        alone = extract(str(path), features)
        assert not isinstance(alone, str)
        assert row == pytest.approx(alone[0], abs=2e-2)


def test_copies_of_a_recording_are_found_whatever_their_embedding(
    songs: list[Path], tmp_path: Path
) -> None:
    """Copies that are re-encoded, cut or quieter come first; the file itself is left out."""
    copies = {
        "opus": ("-c:a", "libopus", "-b:a", "48k", "-ar", "48000"),
        "mp3": ("-ss", "3.1", "-b:a", "96k"),
        "ogg": ("-af", "volume=-20dB"),
    }
    paths = [str(path) for path in songs]
    for suffix, arguments in copies.items():
        paths.append(str(tmp_path / f"copy.{suffix}"))
        run_ffmpeg("-i", songs[2], *arguments, paths[-1])
    rows = np.random.default_rng(0).normal(size=(len(paths), 4)).astype(np.float32)
    library = make_library(rows, paths)
    embeddings = np.stack([rows[2]] * len(LEVELS))
    found = find_neighbours(paths[2], library, fit_standard(library), embeddings, 5, 1)
    assert {each.row for each in found[:3]} == {6, 7, 8}
    assert [each.same_recording for each in found] == [True] * 3 + [False] * 2
    assert 2 not in {each.row for each in found}
    order = [each.similarity for each in found]
    assert order[:3] == sorted(order[:3], reverse=True)
    assert order[3:] == sorted(order[3:], reverse=True)


def test_a_track_that_is_near_only_at_another_level_is_compared(songs: list[Path]) -> None:
    """An encoder may hear how loud a track is: a quiet copy need not be near."""
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    far = np.array([1.0, 0, 0, 0], np.float32)
    rows[:50] = far + 0.01 * rows[:50]
    paths = [str(songs[1])] * 50 + [str(songs[3])] * 10
    library = make_library(rows, paths, 100)
    own = LEVELS.index(0.0)
    embeddings = np.stack([far if place == own else rows[55] for place in range(len(LEVELS))])
    found = find_neighbours(str(songs[0]), library, fit_standard(library), embeddings, 60, 1)
    assert {each.row for each in found} >= {*range(50), 55}


def test_files_that_are_gone_cannot_be_compared(songs: list[Path], tmp_path: Path) -> None:
    others = [str(tmp_path / "gone.wav"), "", str(songs[0])]
    first, second, third = compare_recordings(str(songs[0]), others, 1)
    assert (first, second) == (None, None)
    assert third == pytest.approx(1)
    assert list(compare_recordings(str(tmp_path / "gone.wav"), others[2:], 1)) == [None]
